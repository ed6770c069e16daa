package labtest

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// What a thread sends over a veth waits in a queue of the CPU that it runs on. If the
// scheduler moves it to another CPU, what it sends there may get past that, which is no
// fault of anything between. A thread that stays where it is keeps its packets in order.

// OnCPU keeps the calling goroutine on the nth CPU, from 0, of those that the process may
// use, of which there may be fewer: then it begins again with the first. The goroutine
// has its thread for itself, which ends with it.
func OnCPU(n int) error {
	runtime.LockOSThread()
	var usable unix.CPUSet
	if err := unix.SchedGetaffinity(0, &usable); err != nil {
		return err
	}
	one := nth(usable, n)
	return unix.SchedSetaffinity(0, &one)
}

// PinThreads keeps each thread of the process, also of those that are started later, on
// one CPU until the test ends: on the first so many of the CPUs, in turn. No other test
// of the process may run meanwhile.
func PinThreads(t testing.TB, cpus int) {
	t.Helper()
	var usable unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &usable); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eachThread(t, func(int) unix.CPUSet { return usable }) })
	eachThread(t, func(i int) unix.CPUSet { return nth(usable, i%cpus) })
}

// eachThread has the threads of the process, counted from 0, run on sets of CPUs.
func eachThread(t testing.TB, on func(i int) unix.CPUSet) {
	t.Helper()
	seen := map[string]bool{}
	for more := true; more; { // a thread that was not there may be the child of one that had its old CPUs yet
		more = false
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			set := on(len(seen))
			seen[e.Name()], more = true, true
			tid, err := strconv.Atoi(e.Name())
			if err == nil {
				err = unix.SchedSetaffinity(tid, &set)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				t.Fatalf("thread %s: %v", e.Name(), err)
			}
		}
	}
}

// nth is a set of the nth member of another one, modulo its size.
func nth(set unix.CPUSet, n int) (one unix.CPUSet) {
	n %= set.Count()
	for cpu := 0; ; cpu++ {
		if !set.IsSet(cpu) {
			continue
		}
		if n--; n < 0 {
			one.Set(cpu)
			return one
		}
	}
}
