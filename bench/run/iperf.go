package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// The workload that iperf3 is set against, and in how many rounds of the first
// profile at most.
const (
	checkedWorkload = "tcp1"
	checkedMetric   = "throughput"
	checkedRounds   = 3
)

// checkSeconds is how long iperf3 measures, and warms up before: it takes
// whole seconds only.
func (o *Options) checkSeconds() (warmup, seconds int) {
	return 1, max(1, int(o.Duration.Round(time.Second).Seconds()))
}

// iperfVersion returns the first line of `iperf3 --version`, "" if there is
// none to use.
func iperfVersion(ctx context.Context, program string) string {
	if program == "" {
		return ""
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// iperf measures TCP over one flow with iperf3, in Gbit/s.
func (r *runner) iperf(ctx context.Context, p *path) (float64, error) {
	warmup, seconds := r.o.checkSeconds()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(warmup+seconds+10)*time.Second, errors.New("iperf3 did not end in time"))
	defer cancel()
	to := p.to().IPv4.String()
	server, err := startIPerf(ctx, p.to().Namespace, r.o.IPerf3, "-s", "-1", "-B", to, "--forceflush")
	if err != nil {
		return 0, err
	}
	defer server.end()
	if err := server.listening(); err != nil {
		return 0, err
	}
	client, err := startIPerf(ctx, p.from().Namespace, r.o.IPerf3,
		"-c", to, "-t", strconv.Itoa(seconds), "-O", strconv.Itoa(warmup), "-C", r.o.Congestion, "-J")
	if err != nil {
		return 0, err
	}
	defer client.end()
	answer, err := io.ReadAll(client.stdout)
	if err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return parseIPerf(answer)
}

type iperfProcess struct {
	cmd    *exec.Cmd
	stdout io.Reader
}

func startIPerf(ctx context.Context, in *lab.Namespace, program string, args ...string) (*iperfProcess, error) {
	p := &iperfProcess{cmd: exec.CommandContext(ctx, program, args...)}
	var err error
	if p.stdout, err = p.cmd.StdoutPipe(); err == nil {
		err = in.Start(p.cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("start iperf3: %w", err)
	}
	return p, nil
}

// listening waits until a server says that it listens.
func (p *iperfProcess) listening() error {
	var said bytes.Buffer
	b := make([]byte, 4096)
	for !strings.Contains(said.String(), "Server listening") {
		n, err := p.stdout.Read(b)
		if err != nil {
			return fmt.Errorf("iperf3 -s does not listen: %s", said.String())
		}
		said.Write(b[:n])
	}
	return nil
}

func (p *iperfProcess) end() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()
}

// parseIPerf reads the received rate out of `iperf3 -J`, in Gbit/s.
func parseIPerf(b []byte) (float64, error) {
	var answer struct {
		Error string
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return 0, fmt.Errorf("read iperf3's answer: %w", err)
	}
	if answer.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", answer.Error)
	}
	if answer.End.Received.BitsPerSecond <= 0 {
		return 0, errors.New("iperf3 received nothing")
	}
	return answer.End.Received.BitsPerSecond / 1e9, nil
}
