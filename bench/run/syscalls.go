package run

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls is how many system calls processes made in a span of time.
type calls struct {
	elapsed             time.Duration
	daemons, generators uint64
}

// callEvent is the tracepoint at the entry of each system call.
const callEvent = "raw_syscalls:sys_enter"

// callEventID finds the tracepoint's number.
func callEventID() (uint64, error) {
	const file = "events/raw_syscalls/sys_enter/id"
	var errs []error
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil {
			return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("no tracepoint %s: %w", callEvent, errors.Join(errs...))
}

// canCountCalls returns why system calls cannot be counted here, nil if they
// can.
func canCountCalls() error {
	c, err := openCallCounters([]int{os.Getpid()})
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.read()
	return err
}

// callCounters count with perf_event_open(2), one descriptor for each thread.
type callCounters struct{ fds []int }

// openCallCounters starts counting the calls of all threads of processes, and
// of threads that those start.
func openCallCounters(pids []int) (*callCounters, error) {
	id, err := callEventID()
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_TRACEPOINT, Config: id,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Bits: unix.PerfBitInherit,
	}
	c := new(callCounters)
	for _, pid := range pids {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			c.close()
			return nil, err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue // no thread
			}
			fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
			if errors.Is(err, unix.ESRCH) {
				continue // it has ended
			}
			if err != nil {
				c.close()
				return nil, fmt.Errorf("perf_event_open for %s: %w", callEvent, err)
			}
			c.fds = append(c.fds, fd)
		}
	}
	return c, nil
}

func (c *callCounters) read() (total uint64, err error) {
	for _, fd := range c.fds {
		var b [8]byte
		if _, err := unix.Read(fd, b[:]); err != nil {
			return 0, fmt.Errorf("read %s: %w", callEvent, err)
		}
		total += binary.NativeEndian.Uint64(b[:])
	}
	return total, nil
}

func (c *callCounters) close() {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
}
