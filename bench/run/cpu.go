package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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

// machineStat reads the CPU time of the whole machine since it was booted, and
// its context switches.
func machineStat() (t cpuTime, switches uint64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, 0, err
	}
	if t, switches, err = parseStat(string(b)); err != nil {
		err = fmt.Errorf("read /proc/stat: %w", err)
	}
	return t, switches, err
}

// parseStat reads /proc/stat, see proc_stat(5).
func parseStat(text string) (t cpuTime, switches uint64, err error) {
	line, rest, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	// user nice system idle iowait irq softirq steal
	if len(fields) < 9 || fields[0] != "cpu" {
		return t, 0, fmt.Errorf("unexpected line %q", line)
	}
	var seconds [9]float64
	for i := 1; i < len(seconds); i++ {
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return t, 0, err
		}
		seconds[i] = float64(ticks) / ticksPerSecond
	}
	t = cpuTime{
		user: seconds[1] + seconds[2], system: seconds[3],
		softirq: seconds[6] + seconds[7], steal: seconds[8],
	}
	for line := range strings.Lines(rest) {
		if count, ok := strings.CutPrefix(line, "ctxt "); ok {
			switches, err = strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			return t, switches, err
		}
	}
	return t, 0, errors.New("no line ctxt")
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
