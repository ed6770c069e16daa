package udp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	tcx "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Each worker has a ring of its own, as far as there are floods left to user space, and
// waits for its descriptor.
func TestWorkersHaveRings(t *testing.T) {
	ns := newUnderlay(t, setup{})[0]
	for _, c := range []struct {
		name string
		setup
		rings int
	}{
		{"one worker", setup{assist: true}, 1},
		{"three workers", setup{assist: true, workers: 3}, 3},
		{"more workers than floods", setup{assist: true, workers: 5, sourcePorts: 3}, 4},
		{"no floods", setup{assist: true, workers: 2, disable: []Feature{AssistFloods}}, 0},
		{"no batches", setup{assist: true, workers: 2, disable: []Feature{UDPSegment}}, 0},
		{"no assist", setup{workers: 2}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, ns, 1, c.setup)
			if len(n.workers) != max(c.workers, 1) {
				t.Fatalf("%d workers", len(n.workers))
			}
			seen := make(map[any]bool)
			for i, w := range n.workers {
				fd := w.poller.(*fdPoller).ports[ringAt]
				if i >= c.rings {
					if w.sender.ring != nil || fd != -1 {
						t.Errorf("worker %d has the ring %v with the descriptor %d", i, w.sender.ring, fd)
					}
					continue
				}
				if w.sender.ring == nil || fd < 0 || seen[w.sender.ring] || seen[fd] {
					t.Errorf("worker %d has the ring %v with the descriptor %d: none, or another worker's", i, w.sender.ring, fd)
				}
				if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || at != "anon_inode:bpf-map" {
					t.Errorf("worker %d waits for %q, %v", i, at, err)
				}
				seen[w.sender.ring], seen[fd] = true, true
			}
			check(t, n.Close())
		})
	}
}

// heldOfBPF counts this process's descriptors of eBPF maps, programs and links, and its
// mappings of maps.
func heldOfBPF(t *testing.T) (descriptors, mappings int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	check(t, err)
	for _, path := range files {
		if at, err := os.Readlink(path); err == nil && strings.HasPrefix(at, "anon_inode:bpf") {
			descriptors++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	return descriptors, strings.Count(string(maps), "anon_inode:bpf")
}

// After Close nothing of eBPF is left, whatever went before it. Of mappings, those of
// arrays go with the garbage.
func TestRingsAreClosed(t *testing.T) {
	for _, c := range []struct {
		name     string
		enter    func(t *testing.T, eth0 int) // before the start, in the namespace
		meddle   func(*assisted)              // with what runs; the caller holds mu
		attached bool
	}{
		{"as a rule", nil, func(*assisted) {}, true},
		{"given up before", nil, func(a *assisted) { a.giveUp(errors.New("given up")) }, true},
		{"ended before", nil, func(a *assisted) { a.end(errors.New("ended")) }, true},
		{"not attached", crowd, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := newUnderlay(t, setup{})[0]
			if c.enter != nil {
				check(t, ns.Do(func() error {
					eth0, err := netlink.LinkByName("eth0")
					check(t, err)
					c.enter(t, eth0.Attrs().Index)
					return nil
				}))
			}
			waitFor(t, "what others left to be gone", func() bool {
				runtime.GC()
				_, mappings := heldOfBPF(t)
				return mappings == 0
			})
			before, _ := heldOfBPF(t)
			files := openFiles(t)
			n := newNode(t, ns, 1, setup{assist: true, workers: 3})
			descriptors, mappings := heldOfBPF(t)
			if f := capability(t, n, Assist); f.On != c.attached || (descriptors > before) != c.attached || (mappings > 0) != c.attached {
				t.Errorf("%d descriptors, %d mappings: %+v", descriptors-before, mappings, f)
			} else if !c.attached && !strings.Contains(f.Why, "attach to interface") { // when all else was made
				t.Errorf("it did not start: %s", f.Why)
			}
			if c.attached {
				n.assisted.mu.Lock()
				c.meddle(n.assisted)
				n.assisted.mu.Unlock()
				for i, w := range n.workers {
					// The workers go on to look there.
					if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.poller.(*fdPoller).ports[ringAt])); err != nil || at != "anon_inode:bpf-map" {
						t.Errorf("worker %d waits for %q, %v", i, at, err)
					}
				}
			}
			check(t, n.Health())
			check(t, n.Close())
			// At once: what has to wait for the garbage collector was forgotten.
			if now, _ := heldOfBPF(t); now != before || openFiles(t) != files {
				t.Errorf("%d descriptors of eBPF before, %d after; %d and %d of all", before, now, files, openFiles(t))
			}
			waitFor(t, "the mappings to be gone", func() bool {
				runtime.GC()
				_, mappings := heldOfBPF(t)
				return mappings == 0
			})
			check(t, n.Close())
		})
	}
}

// crowd attaches as many programs to an interface as the kernel allows (BPF_MPROG_MAX),
// so that there is no room for another.
func crowd(t *testing.T, index int) {
	t.Helper()
	for range 63 {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "weft_test", Type: ebpf.SchedCLS, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TCX_NEXT
		})
		check(t, err)
		t.Cleanup(func() { p.Close() })
		l, err := tcx.AttachTCX(tcx.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXIngress})
		check(t, err)
		t.Cleanup(func() { l.Close() })
	}
}
