package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processSwitches counts the context switches of a process, of the threads
// that it has now.
func processSwitches(pid int) (total uint64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err == nil && len(files) == 0 {
		err = os.ErrProcessDone
	}
	for _, file := range files {
		b, readErr := os.ReadFile(file)
		if readErr != nil {
			continue // a thread that has ended
		}
		for _, key := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			n, parseErr := statusNumber(string(b), key)
			total, err = total+n, errors.Join(err, parseErr)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("context switches of process %d: %w", pid, err)
	}
	return total, nil
}

// resetPeakMemory has the kernel forget the most memory that a process had
// resident, see proc_pid_clear_refs(5).
func resetPeakMemory(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// peakMemory is the most memory that a process had resident, in bytes.
func peakMemory(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	kilobytes, err := statusNumber(string(b), "VmHWM")
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return kilobytes << 10, nil
}

// statusNumber reads one line of /proc/PID/status, see proc_pid_status(5).
func statusNumber(text, key string) (uint64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("no line %s", key)
}
