// Package lab builds networks out of Linux network namespaces: hosts, the
// underlay between them, bridges and containers. Tests, the demo and the
// benchmarks all stand on it. It uses netlink only and needs root, but no
// `ip` command.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a named network namespace; `ip netns exec NAME` finds it.
type Namespace struct {
	Name string
}

// NewNamespace makes a network namespace with its loopback device up. A
// leftover of the same name from an earlier run is removed first.
func NewNamespace(name string) (*Namespace, error) {
	if _, err := os.Stat(namespacePath(name)); err == nil {
		if err := netns.DeleteNamed(name); err != nil {
			return nil, fmt.Errorf("remove leftover namespace %s: %w", name, err)
		}
	}
	n := &Namespace{Name: name}
	err := onOwnThread(func() error {
		// NewNamed leaves the calling thread inside the new namespace.
		h, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
		defer h.Close()
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo in %s: %w", name, err)
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

func namespacePath(name string) string { return "/run/netns/" + name }

// Delete removes the namespace's name. Its devices go when the last process
// in it has ended, so end those first. Deleting twice is no error.
func (n *Namespace) Delete() error {
	if err := netns.DeleteNamed(n.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", n.Name, err)
	}
	return nil
}

// Do runs fn on a thread inside the namespace. Goroutines that fn starts do
// not inherit it; sockets and processes that fn opens do.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		h, err := netns.GetFromName(n.Name)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", n.Name, err)
		}
		defer h.Close()
		if err := netns.Set(h); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return fn()
	})
}

// onOwnThread runs fn on a thread that is thrown away afterwards, so that a
// changed namespace cannot leak to other goroutines.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		// The answer must arrive even if fn ends the goroutine (t.FailNow).
		err := errors.New("ended early")
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}

// Start starts cmd inside the namespace.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	return n.Do(cmd.Start)
}

// Output runs a command inside the namespace to its end and returns what it
// printed, stderr included.
func (n *Namespace) Output(name string, args ...string) (string, error) {
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s in %s: %w: %s", name, strings.Join(args, " "), n.Name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Sysctl sets a kernel parameter of the namespace, for instance
// ("net/ipv4/ip_forward", "1").
func (n *Namespace) Sysctl(key, value string) error {
	return n.Do(func() error {
		// The path through the thread's own task directory is needed:
		// /proc/sys/net shows the namespace of the thread that opens it.
		return os.WriteFile("/proc/sys/"+key, []byte(value), 0)
	})
}

// AddAddr gives a device of the namespace an address, which is usable on return, and
// brings it up.
func (n *Namespace) AddAddr(device string, addr netip.Prefix) error {
	return n.withLink(device, func(link netlink.Link) error {
		a, err := netlink.ParseAddr(addr.String())
		if err != nil {
			return err
		}
		if addr.Addr().Is6() {
			a.Flags |= unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add %s: %w", addr, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		return awaitLocal(addr.Addr())
	})
}

// awaitLocal waits until what comes to an address of this host is taken for its own. To
// an IPv6 address that is not before a worker of the kernel has got to it
// (addrconf_dad_work), which may take 0.2 s on a busy machine; what came until then was
// lost.
func awaitLocal(addr netip.Addr) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(addr.AsSlice())
		if err == nil && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not local though it was added: %v, %v", addr, routes, err)
		}
	}
}

// DelAddr takes an address from a device, and with it the routes that need it.
func (n *Namespace) DelAddr(device string, addr netip.Prefix) error {
	return n.withLink(device, func(link netlink.Link) error {
		a, err := netlink.ParseAddr(addr.String())
		if err != nil {
			return err
		}
		if err := netlink.AddrDel(link, a); err != nil {
			return fmt.Errorf("delete %s: %w", addr, err)
		}
		return nil
	})
}

// AddRoute adds a route via a gateway; dst 0.0.0.0/0 or ::/0 is the default.
func (n *Namespace) AddRoute(dst netip.Prefix, via netip.Addr) error {
	return n.route("add", netlink.RouteAdd, dst, via)
}

// DelRoute deletes a route that AddRoute added.
func (n *Namespace) DelRoute(dst netip.Prefix, via netip.Addr) error {
	return n.route("delete", netlink.RouteDel, dst, via)
}

func (n *Namespace) route(verb string, do func(*netlink.Route) error, dst netip.Prefix, via netip.Addr) error {
	return n.Do(func() error {
		_, d, err := parseIPNet(dst)
		if err != nil {
			return err
		}
		if err := do(&netlink.Route{Dst: d, Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("%s route %s via %s in %s: %w", verb, dst, via, n.Name, err)
		}
		return nil
	})
}
