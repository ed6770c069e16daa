// Package demo shows weft at work: three hosts made of network namespaces,
// real weftd processes on them, and traffic between their containers.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// Options of a demo.
type Options struct {
	Weftd string // path of the binary
	Keep  bool   // leave everything running at the end
}

const (
	name          = "weft-demo"
	hosts         = 3
	networkConfig = `{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}`
	endpoint      = "http://192.0.2.1:2379" // of etcd, inside weftd on host 1
)

// A demo is one run, from an empty machine to an empty machine.
type demo struct {
	Options
	out     *progress
	cluster *lab.Cluster
	weftds  []*lab.Weftd
	pairs   []*pair
}

// Run builds the lab, shows what weft does in it, prints the figures and
// removes everything. Its last line is "demo: ok" if there is no error. An
// error says at which step it happened and where the logs are.
func Run(ctx context.Context, o Options, stdout io.Writer) (err error) {
	if err := checkMachine(o); err != nil {
		return err
	}
	removed, err := lab.Sweep(name)
	if err != nil {
		return fmt.Errorf("remove an earlier demo: %w", err)
	}
	if len(removed) > 0 {
		fmt.Fprintln(stdout, "removed what an earlier demo left")
	}
	d := &demo{Options: o, out: newProgress(stdout)}
	runErr := d.show(ctx)
	if err := d.end(runErr != nil && ctx.Err() == nil); err != nil {
		return errors.Join(runErr, err)
	}
	if runErr != nil {
		return runErr
	}
	fmt.Fprintln(stdout, "demo: ok")
	return nil
}

// Clean removes what --keep, or a crash, left.
func Clean(stdout io.Writer) error {
	removed, err := lab.Sweep(name)
	if err != nil {
		return err
	}
	if len(removed) == 0 {
		fmt.Fprintln(stdout, "there was nothing to remove")
	} else {
		fmt.Fprintln(stdout, "removed the demo: its processes, namespaces and", lab.Dir(name))
	}
	return nil
}

// checkMachine says what is missing before anything is made.
func checkMachine(o Options) error {
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces, which needs root; run it with sudo")
	}
	if err := unix.Access(o.Weftd, unix.X_OK); err != nil {
		return fmt.Errorf("no weftd to run at %s (%w); build it with `make build`, or name it with --weftd", o.Weftd, err)
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("weft needs TUN devices: %w; load the module with `modprobe tun`, or, inside a container, give it the device /dev/net/tun", err)
	}
	return tun.Close()
}

// show goes through the steps in order.
func (d *demo) show(ctx context.Context) error {
	steps := []struct {
		title string
		run   func(context.Context) error
		limit time.Duration
	}{
		{"build three hosts on one underlay", d.buildHosts, 10 * time.Second},
		{"start etcd and weftd on host1, write the network config", d.startFirst, 20 * time.Second},
		{"start weftd on host2 and host3, wait until all carry packets", d.startOthers, 30 * time.Second},
		{"put a container behind a bridge on each host", d.attachContainers, 10 * time.Second},
		{"ping between all containers", d.pingPairs, 30 * time.Second},
		{"send 1 GiB by TCP and compare SHA-256", d.sendChecked, 60 * time.Second},
		{"send UDP both ways", d.echoUDP, 30 * time.Second},
		{"measure TCP, weft and plain routing", d.measureTCP, 60 * time.Second},
	}
	for i, s := range steps {
		d.out.begin(fmt.Sprintf("[%d/%d] %s", i+1, len(steps), s.title))
		stepCtx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done within %v", s.limit))
		err := s.run(stepCtx)
		if err != nil && stepCtx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(stepCtx), err)
		}
		cancel()
		if err != nil {
			d.out.fail()
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
		d.out.done()
	}
	fmt.Fprintln(d.out.w)
	fmt.Fprintln(d.out.w, d.table())
	return nil
}

// end removes the lab, or with --keep leaves it running.
func (d *demo) end(keepLogs bool) error {
	switch {
	case d.cluster == nil:
		return nil
	case d.Keep:
		fmt.Fprint(d.out.w, d.howToLookAround())
		return d.cluster.Leave()
	case keepLogs:
		fmt.Fprintf(d.out.w, "the logs are in %s\n", d.cluster.Dir)
	}
	return d.cluster.Close(keepLogs)
}

func (d *demo) howToLookAround() string {
	var b strings.Builder
	fmt.Fprintf(&b, "everything is left running; logs and state are in %s\n", d.cluster.Dir)
	fmt.Fprintln(&b, "look around (as root):")
	for _, w := range d.weftds[:min(1, len(d.weftds))] {
		fmt.Fprintf(&b, "  %s status --control-socket %s\n", d.Weftd, w.ControlSocket)
		fmt.Fprintf(&b, "  cat %s %s\n", w.SubnetFile, w.Log)
		fmt.Fprintf(&b, "  ip netns exec %s ip route\n", w.Host.Name)
		fmt.Fprintf(&b, "  ip netns exec %s %s config get --etcd-endpoints %s\n", w.Host.Name, d.Weftd, endpoint)
	}
	for _, p := range d.pairs[:min(1, len(d.pairs))] {
		fmt.Fprintf(&b, "  ip netns exec %s ping %s\n", p.from.Container.Name, p.to.Container.IPv4)
		fmt.Fprintf(&b, "  ip netns exec %s tcpdump -ni eth0 udp port 8285\n", p.to.Name)
	}
	fmt.Fprintf(&b, "remove it:\n  %s demo --clean\n", os.Args[0])
	return b.String()
}
