package assist

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// mappings are the addresses at which eBPF maps lie in the process's memory.
func mappings(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "bpf-map") {
			all = append(all, strings.SplitN(line, "-", 2)[0])
		}
	}
	return all
}

// waitUnmapped waits until no eBPF map lies in memory. What package ebpf has mapped goes
// some time after the garbage collector found that nobody can reach it.
func waitUnmapped(t *testing.T, when string) {
	t.Helper()
	waitFor(t, "no eBPF map in memory "+when, func() bool { runtime.GC(); return len(mappings(t)) == 0 })
}

// Rings outlive their Assist, with what waits there, and then go without a trace.
func TestRingsOutliveAssist(t *testing.T) { // not in parallel: it counts
	labtest.RequireRoot(t)
	cfg := Config{TUN: 1, Underlay: 1, Local: addr("192.0.2.200"), Port: testPort, Floods: 2}
	before := descriptors(t)
	p, err := load(cfg)
	check(t, err)
	check(t, p.egress.Close())
	p.egress = loadTest(t, leaving(cfg, p.shared, carry()))
	h := &egressHost{Namespace: labtest.Namespace(t, "host"), t: t, Assist: &Assist{programs: p, cfg: cfg}}
	check(t, h.share())
	check(t, h.Set(egressOwn, egressPeers))
	h.setSeat(t, 2)
	var want [][]byte
	for n := range 3 {
		want = append(want, numbered(500, n))
		if got := h.marked(want[n], 0, 0); got != tcxRedirect {
			t.Fatal(got)
		}
	}
	rings := h.Rings()
	if len(rings) != 2 {
		t.Fatalf("%d rings", len(rings))
	}
	var ends []string
	for _, r := range rings {
		for _, m := range [][]byte{r.consumer, r.producer} {
			ends = append(ends, fmt.Sprintf("%x", uintptr(unsafe.Pointer(&m[0]))))
		}
	}
	mapped := func() (n int) {
		for _, m := range mappings(t) {
			if slices.Contains(ends, m) {
				n++
			}
		}
		return n
	}
	check(t, h.Close())
	check(t, h.Close())
	if got := mapped(); got != 4 || descriptors(t) != before+2 {
		t.Errorf("after Close two rings have %d mappings and %d descriptors", got, descriptors(t)-before)
	}
	if !readableNow(t, rings[1]) || readableNow(t, rings[0]) {
		t.Error("after Close one cannot see what waits")
	}
	if got := takeAll(t, rings[1]); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("after Close a ring has %x", got)
	}
	for i, r := range rings {
		check(t, r.Close())
		if got := mapped(); got != 2-2*i || descriptors(t) != before+1-i {
			t.Errorf("with %d of two rings closed there are %d mappings and %d descriptors", i+1, got, descriptors(t)-before)
		}
	}
}

// occupy attaches programs to what arrives at a device until there is no place for another
// one: there are 64 (BPF_MPROG_MAX in linux/bpf_mprog.h).
func (h *host) occupy(device string) {
	h.t.Helper()
	for n := 0; ; n++ {
		program := loadTest(h.t, asm.Instructions{asm.Mov.Imm(asm.R0, tcxNext), asm.Return()})
		opts := link.TCXOptions{Interface: h.index(device), Program: program, Attach: ebpf.AttachTCXIngress}
		var l link.Link
		err := h.Do(func() (err error) { l, err = link.AttachTCX(opts); return err })
		if errors.Is(err, unix.ERANGE) && n > 0 {
			return
		}
		check(h.t, err)
		h.t.Cleanup(func() { l.Close() })
	}
}

// Wherever Attach fails, it leaves nothing: no program, no descriptor, no ring in memory.
func TestAttachFailsHalfWay(t *testing.T) { // not in parallel: it counts, and others could open nothing
	h := newHosts(t, 1, 1500)[0]
	h.seats = MaxFloods
	attach := func() (rings []*Ring, err error) {
		a, err := h.attachHere(1)
		if err != nil {
			return nil, err
		}
		return a.Rings(), a.Close()
	}
	shut := func(rings []*Ring) {
		for _, r := range rings {
			check(t, r.Close())
		}
	}
	check(t, h.Do(func() error { // what is opened once and for all
		rings, err := attach()
		shut(rings)
		return err
	}))
	before := descriptors(t)
	nothing := func(when string) {
		t.Helper()
		if n := descriptors(t); n != before {
			t.Fatalf("%s: %d descriptors, %d before", when, n, before)
		}
		waitUnmapped(t, when)
	}
	nothing("attached and closed")

	// With one more descriptor each time, until there are enough.
	var was unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	failures := 0
	for enough := false; !enough; failures++ {
		var rings []*Ring
		var failed, raised error
		check(t, h.Do(func() error {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: lowest(t) + uint64(failures), Max: was.Max}); err != nil {
				return err
			}
			rings, failed = attach()
			raised = unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
			return raised
		}))
		shut(rings)
		enough = failed == nil
		if n := h.attached(); n != 0 {
			t.Fatalf("%d programs are attached", n)
		}
		nothing(fmt.Sprintf("with %d descriptors, Attach: %v", failures, failed))
		if failures > 100 {
			t.Fatal(failed)
		}
	}
	// Maps, programs, links, and each ring's two.
	if failures < 6+3+2+2*MaxFloods {
		t.Errorf("Attach failed %d times for want of descriptors", failures)
	}

	// What fails at last has made all rings.
	h.occupy("eth0")
	before = descriptors(t)
	for range 3 {
		check(t, h.Do(func() error {
			if _, err := attach(); err == nil {
				t.Error("attached to an interface that has no place for a program")
			}
			return nil
		}))
		nothing("behind 64 others")
	}
}

// What is no ring buffer cannot be mapped as one, and is left as it was.
func TestOpenRingFails(t *testing.T) { // not in parallel: it counts
	labtest.RequireRoot(t)
	one, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	check(t, err)
	defer one.Close()
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	check(t, err)
	defer other.Close()
	for what, m := range map[string]*ebpf.Map{"half of it": one, "nothing": other} {
		before := descriptors(t)
		if r, err := openRing(m); err == nil || !strings.Contains(err.Error(), "map the eBPF ring buffer") {
			t.Errorf("%s can be mapped: %v, %v", what, r, err)
		}
		if n := descriptors(t); n != before {
			t.Errorf("%s can be mapped: %d descriptors, %d before", what, n, before)
		}
		waitUnmapped(t, "after "+what)
	}
}

// lowest is the lowest descriptor that is free.
func lowest(t *testing.T) uint64 {
	t.Helper()
	f, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	check(t, unix.Close(f))
	return uint64(f)
}
