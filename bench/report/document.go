// Package report is what a run of the benchmarks leaves: a document, written
// as JSON, and the tables made of it. docs/bench.md describes the JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Schema is the version of Document. A change that a reader of the former
// version would misread raises it; a new field does not.
const Schema = 1

// Document is one run.
type Document struct {
	Schema      int          `json:"schema"`
	Environment Environment  `json:"environment"`
	Results     []Result     `json:"results"`
	Ratios      []Ratio      `json:"ratios"`
	CrossChecks []CrossCheck `json:"cross_checks,omitempty"`
	Warnings    []string     `json:"warnings,omitempty"`
}

// Environment is where and how it was measured.
type Environment struct {
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	Interrupted bool      `json:"interrupted,omitempty"` // there are fewer rounds than planned

	Kernel            string     `json:"kernel"`
	Arch              string     `json:"arch"` // as Go names it
	CPUModel          string     `json:"cpu_model,omitempty"`
	CPUs              int        `json:"cpus"` // that are online
	MemoryBytes       uint64     `json:"memory_bytes"`
	Hypervisor        bool       `json:"hypervisor"`         // the CPUs are a virtual machine's
	LoadAverage       [3]float64 `json:"load_average"`       // before the run: of 1, 5 and 15 minutes
	BusyBefore        float64    `json:"busy_before"`        // part of all CPU time in use before the run, 0 to 1
	DefaultCongestion string     `json:"default_congestion"` // of the kernel

	Weftd  string `json:"weftd"`            // version
	Go     string `json:"go"`               // that weft-bench was built with
	IPerf3 string `json:"iperf3,omitempty"` // version, where it was used

	Flanneld string   `json:"flanneld,omitempty"` // version, where it was measured
	Skipped  []string `json:"skipped,omitempty"`  // paths that were left out, and why
	Syscalls string   `json:"syscalls,omitempty"` // what counted system calls, or why nothing did
	Assist   string   `json:"assist,omitempty"`   // "in force" or why the kernel carries nothing of path udp, where that was measured

	Congestion string             `json:"congestion"` // of the TCP that is measured
	Rounds     int                `json:"rounds"`     // planned
	Warmup     float64            `json:"warmup_seconds"`
	Duration   float64            `json:"duration_seconds"` // of each sample
	MTU        map[string]int     `json:"mtu"`              // of the containers, by path, in the first profile
	Offloads   map[string]Offload `json:"offloads"`         // of the hosts' underlay device, by profile

	ProfileMTU map[string]map[string]int `json:"profile_mtu,omitempty"`    // of the containers, by profile and path
	LossLimit  float64                   `json:"udp_loss_limit,omitempty"` // part of the datagrams lost at the highest rate of UDP
}

// Offload tells which features of a device are on, by the kernel's names.
type Offload map[string]bool

// Result is one figure of one path.
type Result struct {
	Path     string `json:"path"`
	Profile  string `json:"profile"`
	Workload string `json:"workload"`
	Metric   string `json:"metric"`
	Unit     string `json:"unit"`

	Median  float64   `json:"median"`
	Low     float64   `json:"low"`     // least sample
	High    float64   `json:"high"`    // greatest sample
	Samples []float64 `json:"samples"` // one each round, in order
}

// Ratio compares the medians of two paths.
type Ratio struct {
	Of       string `json:"of"`
	To       string `json:"to"`
	Profile  string `json:"profile"`
	Workload string `json:"workload"`
	Metric   string `json:"metric"`

	Ratio      float64 `json:"ratio"`
	Low        float64 `json:"low"` // ends of the interval
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"` // that it holds the true ratio: 0.95
	Pairs      int     `json:"pairs"`
}

// CrossCheck compares the generator with iperf3: TCP over one flow, measured
// in turns.
type CrossCheck struct {
	Path      string  `json:"path"`
	Profile   string  `json:"profile"`
	Workload  string  `json:"workload"`
	Unit      string  `json:"unit"`
	Generator float64 `json:"generator"` // medians
	IPerf3    float64 `json:"iperf3"`
	Samples   int     `json:"samples"` // of iperf3
}

// Find returns a result, nil if there is none.
func (d *Document) Find(path, profile, workload, metric string) *Result {
	for i := range d.Results {
		r := &d.Results[i]
		if r.Path == path && r.Profile == profile && r.Workload == workload && r.Metric == metric {
			return r
		}
	}
	return nil
}

// FindRatio returns a ratio, nil if there is none.
func (d *Document) FindRatio(of, to, profile, workload, metric string) *Ratio {
	for i := range d.Ratios {
		r := &d.Ratios[i]
		if r.Of == of && r.To == to && r.Profile == profile && r.Workload == workload && r.Metric == metric {
			return r
		}
	}
	return nil
}

// Write writes the document to a file, or to stdout if that is "-".
func (d *Document) Write(file string, stdout io.Writer) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	b = append(b, '\n')
	if file == "-" {
		_, err = stdout.Write(b)
		return err
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
