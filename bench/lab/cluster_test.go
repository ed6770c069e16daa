package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

func clusterName(what string) string { return fmt.Sprintf("weft-lt%d-%s", os.Getpid(), what) }

func newCluster(t *testing.T, spec lab.Spec) *lab.Cluster {
	t.Helper()
	labtest.RequireRoot(t)
	c, err := lab.NewCluster(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(false); err != nil {
			t.Error(err)
		}
	})
	return c
}

func reach(t *testing.T, from *lab.Namespace, to netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := traffic.WaitReachable(ctx, from, to); err != nil {
		t.Error(err)
	}
}

func TestClusterOnBothFamilies(t *testing.T) {
	c := newCluster(t, lab.Spec{Name: clusterName("both"), Hosts: 2, IPv4: lab.UnderlayIPv4, IPv6: lab.UnderlayIPv6})
	a, b := c.Hosts[0], c.Hosts[1]
	if got := [4]string{a.IPv4.String(), a.IPv6.String(), b.IPv4.String(), b.IPv6.String()}; got !=
		[4]string{"192.0.2.1", "2001:db8:57::1", "192.0.2.2", "2001:db8:57::2"} {
		t.Error("underlay addresses:", got)
	}
	reach(t, a.Namespace, b.IPv4)
	reach(t, a.Namespace, b.IPv6)
	reach(t, b.Namespace, netip.MustParseAddr("192.0.2.254"))

	for i, h := range c.Hosts {
		err := h.AttachContainer(lab.SubnetEnv{
			Network:    netip.MustParsePrefix("10.5.0.0/16"),
			Subnet:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(i), 1}), 24),
			IPv6Subnet: netip.MustParsePrefix(fmt.Sprintf("fd00:5:%d::1/64", i)),
			MTU:        1400,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Container.IPv4.String() + " " + b.Container.IPv6.String(); got != "10.5.1.2 fd00:5:1::2" {
		t.Error("container addresses:", got)
	}
	reach(t, b.Container.Namespace, netip.MustParseAddr("10.5.1.1"))
	reach(t, b.Container.Namespace, netip.MustParseAddr("fd00:5:1::1"))

	if err := c.RoutePlainly(); err != nil {
		t.Fatal(err)
	}
	reach(t, a.Container.Namespace, b.PlainIPv4())
	reach(t, b.Container.Namespace, a.PlainIPv4())
}

// A host behind a router is reached through it, in both families.
func TestMoveBehindRouter(t *testing.T) {
	c := newCluster(t, lab.Spec{Name: clusterName("far"), Hosts: 2, IPv4: lab.UnderlayIPv4, IPv6: lab.UnderlayIPv6})
	near, far := c.Hosts[0], c.Hosts[1]
	if err := c.MoveBehindRouter(far); err != nil {
		t.Fatal(err)
	}
	if got := far.IPv4.String() + " " + far.IPv6.String(); got != "198.51.100.2 2001:db8:58::2" {
		t.Error("addresses:", got)
	}
	reach(t, near.Namespace, far.IPv4)
	reach(t, near.Namespace, far.IPv6)
	for _, command := range []string{"-4 route get 198.51.100.2", "-6 route get 2001:db8:58::2"} {
		out, err := near.Output("ip", strings.Fields(command)...)
		if err != nil || !strings.Contains(out, " via ") {
			t.Errorf("ip %s: %v\n%s", command, err, out)
		}
	}
}

func TestClusterOnIPv6Alone(t *testing.T) {
	c := newCluster(t, lab.Spec{Name: clusterName("v6"), Hosts: 2, IPv6: lab.UnderlayIPv6})
	if c.Hosts[0].IPv4.IsValid() {
		t.Error("a host has an IPv4 address:", c.Hosts[0].IPv4)
	}
	reach(t, c.Hosts[0].Namespace, c.Hosts[1].IPv6)
}

func TestSecondClusterOfTheSameName(t *testing.T) {
	spec := lab.Spec{Name: clusterName("twice"), Hosts: 1}
	newCluster(t, spec)
	if _, err := lab.NewCluster(spec); !errors.Is(err, lab.ErrRunning) {
		t.Error("the second NewCluster returns", err)
	}
	if removed, err := lab.Sweep(spec.Name); err != nil || len(removed) != 0 {
		t.Errorf("Sweep removes %q of a running lab, %v", removed, err)
	}
	reach(t, &lab.Namespace{Name: spec.Name + "-host1"}, netip.MustParseAddr("192.0.2.254"))
}

func TestClusterIsGoneAfterClose(t *testing.T) {
	labtest.RequireRoot(t)
	c, err := lab.NewCluster(lab.Spec{Name: clusterName("close"), Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Hosts[0].Run("sleeper", "/bin/sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(false); err != nil {
		t.Error(err)
	}
	wantNothingLeft(t, c, p.PID())
}

func TestSweepRemovesWhatALostRunLeft(t *testing.T) {
	labtest.RequireRoot(t)
	c, err := lab.NewCluster(lab.Spec{Name: clusterName("lost"), Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Hosts[0].Run("stubborn", "/bin/sh", "-c", `trap "" TERM; while :; do sleep 1; done`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	removed, err := lab.Sweep(c.Name)
	if err != nil || len(removed) != 1 || removed[0] != c.Name {
		t.Errorf("Sweep returns %q, %v", removed, err)
	}
	wantNothingLeft(t, c, p.PID())
}

// The pid file of a process that ended must not hit a later one of that id.
func TestSweepSparesARecycledProcessID(t *testing.T) {
	labtest.RequireRoot(t)
	c, err := lab.NewCluster(lab.Spec{Name: clusterName("pid"), Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	stale := fmt.Appendf(nil, "%d 1\n", os.Getpid()) // started at boot: not us
	if err := os.WriteFile(filepath.Join(c.Hosts[0].Dir, "stale.pid"), stale, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Sweep(c.Name); err != nil { // would end this test
		t.Error(err)
	}
}

func TestStopKillsOnlyWhatDoesNotEnd(t *testing.T) {
	t.Parallel() // takes StopGrace
	c := newCluster(t, lab.Spec{Name: clusterName("stop"), Hosts: 1})
	h := c.Hosts[0]
	willing, err := h.Run("willing", "/bin/sh", "-c", `exec sleep 1000`)
	if err != nil {
		t.Fatal(err)
	}
	if err := willing.Stop(); err != nil {
		t.Error(err)
	}
	if willing.Err() == nil || !strings.Contains(willing.Err().Error(), "terminated") {
		t.Error("ended by", willing.Err())
	}
	stubborn, err := h.Run("stubborn", "/bin/sh", "-c", `trap "" TERM; echo ready; while :; do sleep 1; done`)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); stubborn.LogTail(1) != "ready"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no output in the log:", stubborn.LogTail(1))
		}
	}
	if err := stubborn.Stop(); err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Error("stopping a process that ignores SIGTERM returns", err)
	}
}

func wantNothingLeft(t *testing.T, c *lab.Cluster, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("process %d lives: %s", pid, stat)
		}
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", c.Dir, err)
	}
	if left, _ := filepath.Glob("/run/netns/" + c.Name + "*"); len(left) != 0 {
		t.Error("namespaces left:", left)
	}
}
