package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// pair is one direction between the containers of two hosts.
type pair struct {
	from, to  *lab.Host
	rtt       time.Duration // through weft, median
	plainRTT  time.Duration
	rate      float64 // TCP through weft, bit/s
	plainRate float64
}

func (d *demo) buildHosts(context.Context) (err error) {
	d.cluster, err = lab.NewCluster(lab.Spec{Name: name, Hosts: hosts})
	return err
}

func (d *demo) startFirst(ctx context.Context) error {
	h := d.cluster.Hosts[0]
	err := d.start(h, "--etcd-embedded", "--etcd-embedded-listen="+endpoint,
		// In here nobody else can reach it. Real clusters: `weftd etcd init`.
		"--etcd-embedded-insecure")
	if err != nil {
		return err
	}
	w := d.weftds[0]
	ctx, cancel := w.WhileRunning(ctx)
	defer cancel()
	if err := h.SetNetworkConfig(ctx, d.Weftd, endpoint, networkConfig); err != nil {
		return fmt.Errorf("%w; the end of %s:\n%s", err, w.Log, w.LogTail(10))
	}
	return nil
}

func (d *demo) startOthers(ctx context.Context) error {
	for _, h := range d.cluster.Hosts[1:] {
		if err := d.start(h, "--etcd-endpoints="+endpoint); err != nil {
			return err
		}
	}
	for _, w := range d.weftds {
		env, err := w.WaitReady(ctx)
		if err != nil {
			return err
		}
		d.out.note("%s leased %s, MTU %d", w.Host.Name, env.Subnet.Masked(), env.MTU)
	}
	return nil
}

func (d *demo) start(h *lab.Host, flags ...string) error {
	// The demo must work where no iptables program is installed.
	w, err := h.StartWeftd(d.Weftd, append(flags, "--firewall=nftables")...)
	if err != nil {
		return err
	}
	d.weftds = append(d.weftds, w)
	return nil
}

func (d *demo) attachContainers(context.Context) error {
	for _, w := range d.weftds {
		env, err := lab.ReadSubnetEnv(w.SubnetFile)
		if err != nil {
			return err
		}
		if err := w.Host.AttachContainer(env); err != nil {
			return err
		}
		d.out.note("%s is %s", w.Host.Container.Name, w.Host.Container.IPv4)
	}
	for _, from := range d.cluster.Hosts {
		for _, to := range d.cluster.Hosts {
			if from != to {
				d.pairs = append(d.pairs, &pair{from: from, to: to})
			}
		}
	}
	return d.cluster.RoutePlainly()
}

func (d *demo) pingPairs(ctx context.Context) error {
	for i, p := range d.pairs {
		d.out.update("%d of %d pairs", i, len(d.pairs))
		from := p.from.Container.Namespace
		// A peer's lease may arrive a moment after its owner is ready.
		if err := traffic.WaitReachable(ctx, from, p.to.Container.IPv4); err != nil {
			return err
		}
		if err := traffic.WaitReachable(ctx, from, p.to.PlainIPv4()); err != nil {
			return err
		}
		r, err := traffic.Ping(ctx, from, p.to.Container.IPv4, traffic.PingOptions{Count: 20})
		if err != nil {
			return err
		}
		if r.Lost() > 0 {
			return fmt.Errorf("%d of %d pings from %s to %s were lost", r.Lost(), r.Sent, from.Name, p.to.Container.IPv4)
		}
		plain, err := traffic.Ping(ctx, from, p.to.PlainIPv4(), traffic.PingOptions{Count: 20})
		if err != nil {
			return err
		}
		p.rtt, p.plainRTT = r.Median(), plain.Median()
	}
	return nil
}

func (d *demo) sendChecked(ctx context.Context) error {
	const size = 1 << 30
	from, to := d.cluster.Hosts[0].Container, d.cluster.Hosts[1].Container
	shown := int64(-1)
	t, err := traffic.SendChecked(ctx, from.Namespace, to.Namespace, to.IPv4, size, congestion(), func(n int64) {
		if percent := n * 100 / size; percent != shown {
			shown = percent
			d.out.update("%d %%", percent)
		}
	})
	if err != nil {
		return err
	}
	d.out.note("SHA-256 %x… at both ends, %s with the hashing", t.Received[:8], gigabits(t.BitsPerSecond()))
	return nil
}

func (d *demo) echoUDP(ctx context.Context) error {
	hosts := d.cluster.Hosts
	for i, from := range hosts {
		to := hosts[(i+1)%len(hosts)]
		// 4000 bytes are sent in fragments.
		for _, size := range []int{64, 1200, 4000} {
			d.out.update("%s to %s, %d bytes", from.Name, to.Name, size)
			const count = 500
			r, err := traffic.EchoUDP(ctx, from.Container.Namespace, to.Container.Namespace, to.Container.IPv4,
				traffic.EchoOptions{Count: count, Size: size})
			if err != nil {
				return err
			}
			// UDP may lose; this slowly it hardly does.
			if r.Corrupt > 0 || r.Returned < count*99/100 {
				return fmt.Errorf("%s to %s: of %d datagrams of %d bytes %d arrived, %d came back, %d were corrupt",
					from.Name, to.Name, r.Sent, size, r.Arrived, r.Returned, r.Corrupt)
			}
		}
	}
	return nil
}

func (d *demo) measureTCP(ctx context.Context) error {
	o := traffic.ThroughputOptions{Duration: time.Second, Warmup: 250 * time.Millisecond, Congestion: congestion()}
	for i, p := range d.pairs {
		d.out.update("%d of %d pairs", i, len(d.pairs))
		from, to := p.from.Container.Namespace, p.to.Container.Namespace
		var err error
		if p.rate, err = traffic.MeasureTCP(ctx, from, to, p.to.Container.IPv4, o); err != nil {
			return err
		}
		if p.plainRate, err = traffic.MeasureTCP(ctx, from, to, p.to.PlainIPv4(), o); err != nil {
			return err
		}
	}
	return nil
}

// congestion is cubic, with which figures can be compared, where the kernel
// has it, and otherwise empty: the kernel's default.
func congestion() string {
	available, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err == nil && slices.Contains(strings.Fields(string(available)), "cubic") {
		return "cubic"
	}
	return ""
}
