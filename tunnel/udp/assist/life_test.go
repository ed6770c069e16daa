package assist

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// attached counts the programs attached to a host's two interfaces.
func (h *host) attached() (n int) {
	h.t.Helper()
	check(h.t, h.Do(func() error {
		for device, at := range map[string]ebpf.AttachType{"flannel0": ebpf.AttachTCXEgress, "eth0": ebpf.AttachTCXIngress} {
			ifi, err := net.InterfaceByName(device)
			if err != nil {
				return err
			}
			result, err := link.QueryPrograms(link.QueryOptions{Target: ifi.Index, Attach: at})
			if err != nil {
				return err
			}
			n += len(result.Programs)
		}
		return nil
	}))
	return n
}

// carries reports whether h's kernel carries a packet to o.
func (h *host) carries(o *host) bool {
	h.t.Helper()
	c := h.listen()
	defer c.Close()
	_, err := c.WriteTo([]byte("weft"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(inner(o.number), 4000)))
	check(h.t, err)
	var sent, got int
	waitFor(h.t, "a packet somewhere", func() bool {
		s, _ := h.took()
		sent += len(s)
		_, g := o.took()
		got += len(g)
		return sent+got > 0
	})
	return got > 0
}

func TestClose(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, 2, 1500)
	a, b := hosts[0], hosts[1]
	a.attach(1)
	if a.carries(b) {
		t.Error("before Set a packet was carried")
	}
	a.set(a.peer(b))
	if !a.carries(b) || a.attached() != 2 {
		t.Errorf("no packet was carried by %d programs", a.attached())
	}
	a.assist.SetLimit(subnet(2), 31)
	if a.carries(b) {
		t.Error("a packet above the limit was carried")
	}
	a.assist.SetLimit(subnet(2), 32)
	check(t, a.assist.TakeFlows())
	if !a.carries(b) {
		t.Error("a packet within the limit was not carried")
	}
	check(t, a.assist.Close())
	if a.carries(b) || a.attached() != 0 {
		t.Errorf("after Close %d programs are attached", a.attached())
	}
	// None of these does anything, or fails.
	check(t, a.assist.Close())
	check(t, a.assist.Err())
	a.set(a.peer(b))
	a.assist.SetLimit(subnet(2), 1)
	if tx, rx := a.assist.Traffic(subnet(2)); tx != (Count{}) || rx != (Count{}) || a.assist.Drops() != 0 {
		t.Error("after Close there are counters")
	}
}

// In the child process of TestKilled: the number of the host it is on.
const childHost = "WEFT_ASSIST_CHILD"

// child attaches and carries until it is killed.
func child(t *testing.T, number string) {
	h, o := &host{t: t}, &host{t: t}
	fmt.Sscan(number, &h.number)
	o.number = 3 - h.number
	var err error
	h.assist, err = h.attachHere(1)
	check(t, err)
	h.set(h.peer(o))
	fmt.Println("attached")
	select {}
}

func TestKilled(t *testing.T) {
	if number := os.Getenv(childHost); number != "" {
		child(t, number)
	}
	t.Parallel()
	hosts := newHosts(t, 2, 1500)
	a, b := hosts[0], hosts[1]
	process := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.v")
	process.Env = append(os.Environ(), childHost+"=1")
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	check(t, err)
	check(t, a.Start(process))
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "attached" {
	}
	if lines.Text() != "attached" {
		t.Fatal("the child process has not attached")
	}
	if n := a.attached(); n != 2 || !a.carries(b) {
		t.Fatalf("%d programs of the child process carry nothing", n)
	}
	check(t, process.Process.Kill())
	process.Wait()
	if n := a.attached(); n != 0 || a.carries(b) {
		t.Errorf("%d programs are attached after their process was killed", n)
	}
}

func TestInterfaceGone(t *testing.T) {
	t.Parallel()
	a, _ := newPair(t, 1500)
	check(t, a.assist.Err())
	check(t, a.LinkDelete("eth0"))
	if err := a.assist.Err(); err == nil {
		t.Error("no error without eth0")
	}
	b := newHosts(t, 1, 1500)[0]
	b.attach(1)
	check(t, b.tun.Close())
	waitFor(t, "an error without the TUN", func() bool { return b.assist.Err() != nil })
}

func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	for _, c := range []struct {
		what string
		cfg  func(tun, eth int) Config
		err  string
	}{
		{"no such TUN", func(_, eth int) Config { return Config{TUN: 12345, Underlay: eth, Local: outer(1), Port: 1} }, "12345"},
		{"no such underlay", func(tun, _ int) Config { return Config{TUN: tun, Underlay: 12345, Local: outer(1), Port: 1} }, "12345"},
		{"the TUN is Ethernet", func(_, eth int) Config { return Config{TUN: eth, Underlay: eth, Local: outer(1), Port: 1} }, "eth0"},
		{"the underlay is a TUN", func(tun, _ int) Config { return Config{TUN: tun, Underlay: tun, Local: outer(1), Port: 1} }, "flannel0"},
		{"the underlay is lo", func(tun, _ int) Config { return Config{TUN: tun, Underlay: 1, Local: outer(1), Port: 1} }, "lo"},
		{"IPv6", func(tun, eth int) Config { return Config{TUN: tun, Underlay: eth, Local: addr("fd00::1"), Port: 1} }, "IPv4"},
		{"no address", func(tun, eth int) Config { return Config{TUN: tun, Underlay: eth, Port: 1} }, "IPv4"},
		{"no port", func(tun, eth int) Config { return Config{TUN: tun, Underlay: eth, Local: outer(1)} }, "port"},
		{"more floods than there are seats", func(tun, eth int) Config { return Config{TUN: tun, Underlay: eth, Local: outer(1), Port: 1, Floods: 5} }, "up to 4"},
		{"less than none", func(tun, eth int) Config {
			return Config{TUN: tun, Underlay: eth, Local: outer(1), Port: 1, Floods: -1}
		}, "up to 4"},
	} {
		check(t, h.Do(func() error {
			tun, err := net.InterfaceByName("flannel0")
			check(t, err)
			eth, err := net.InterfaceByName("eth0")
			check(t, err)
			a, err := Attach(c.cfg(tun.Index, eth.Index))
			if err == nil {
				a.Close()
				t.Errorf("%s: attached", c.what)
			} else if !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, does not say %q", c.what, err, c.err)
			}
			return nil
		}))
	}
	if n := h.attached(); n != 0 {
		t.Errorf("%d programs are attached", n)
	}
}

// What fails closes what it has opened.
func TestDescriptors(t *testing.T) { // not in parallel: it counts
	ns := labtest.Namespace(t, "host")
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(entries)
	}
	check(t, Check()) // what is opened once and for all
	before := count()
	check(t, Check())
	check(t, ns.Do(func() error {
		cfg := Config{TUN: 1, Underlay: math.MaxInt32, Local: outer(1), Port: testPort, Descriptors: 700, Floods: 2}
		p, err := load(cfg)
		check(t, err)
		a := &Assist{programs: p, cfg: cfg}
		check(t, a.share())
		if err := a.attach(); !errors.Is(err, unix.ENODEV) || len(a.links) != 1 {
			t.Errorf("attached to one of two interfaces: %v, %d links", err, len(a.links))
		}
		err = a.Close()
		for _, r := range a.rings {
			err = errors.Join(err, r.Close())
		}
		return err
	}))
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
