package run

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, in which /proc counts CPU time: 100 on every
// architecture that Go runs on.
const ticksPerSecond = 100

// cpuTime is CPU time in seconds, of all CPUs together.
type cpuTime struct {
	user    float64 // with nice
	system  float64
	softirq float64 // with interrupts
	steal   float64 // taken by other virtual machines
}

func (t cpuTime) busy() float64 { return t.user + t.system + t.softirq }

func (t cpuTime) sub(before cpuTime) cpuTime {
	return cpuTime{t.user - before.user, t.system - before.system, t.softirq - before.softirq, t.steal - before.steal}
}

// machineTime reads the CPU time of the whole machine since it was booted.
func machineTime() (cpuTime, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}, err
	}
	return parseStat(string(b))
}

// parseStat reads the first line of /proc/stat, see proc_stat(5).
func parseStat(text string) (cpuTime, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	// user nice system idle iowait irq softirq steal
	if len(fields) < 9 || fields[0] != "cpu" {
		return cpuTime{}, fmt.Errorf("read /proc/stat: unexpected line %q", line)
	}
	var seconds [9]float64
	for i := 1; i < len(seconds); i++ {
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return cpuTime{}, fmt.Errorf("read /proc/stat: %w", err)
		}
		seconds[i] = float64(ticks) / ticksPerSecond
	}
	return cpuTime{
		user: seconds[1] + seconds[2], system: seconds[3],
		softirq: seconds[6] + seconds[7], steal: seconds[8],
	}, nil
}

// processTime reads the CPU time of a process, all threads together.
func processTime(pid int) (user, system float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseProcessStat(b)
}

// parseProcessStat reads /proc/PID/stat, see proc_pid_stat(5): the second
// field, in parentheses, may hold anything; utime is the 14th, stime the 15th.
func parseProcessStat(b []byte) (user, system float64, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("read /proc/PID/stat: unexpected content %q", b)
	}
	utime, err := strconv.ParseUint(string(fields[11]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read /proc/PID/stat: %w", err)
	}
	stime, err := strconv.ParseUint(string(fields[12]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read /proc/PID/stat: %w", err)
	}
	return float64(utime) / ticksPerSecond, float64(stime) / ticksPerSecond, nil
}

// usage is the CPU time that one sample took.
type usage struct {
	elapsed  time.Duration
	machine  cpuTime
	weftd    float64 // of the path's daemons, user and system
	hasWeftd bool
	foreign  float64 // user time of processes that are not the run's
}

// reading is all CPU times at one moment.
type reading struct {
	at            time.Time
	machine       cpuTime
	weftd, ownAll float64
}

// read takes a reading. weftds are the path's daemons, own all further
// processes of the run.
func read(weftds, own []int) (r reading, err error) {
	r.at = time.Now()
	if r.machine, err = machineTime(); err != nil {
		return r, err
	}
	for i, pid := range append(weftds[:len(weftds):len(weftds)], own...) {
		user, system, err := processTime(pid)
		if err != nil {
			return r, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		r.ownAll += user
		if i < len(weftds) {
			r.weftd += user + system
		}
	}
	return r, nil
}

// since is what was used between two readings of the same processes.
func (r reading) since(before reading) usage {
	machine := r.machine.sub(before.machine)
	return usage{
		elapsed: r.at.Sub(before.at),
		machine: machine,
		weftd:   r.weftd - before.weftd,
		foreign: max(0, machine.user-(r.ownAll-before.ownAll)),
	}
}
