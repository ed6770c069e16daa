package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// Three hosts: Docker's default bridge is on the lease of the first, a network
// of its own on that of the second, and the third has no Docker.
//
// It takes dockerd from PATH; WEFT_DOCKERD and WEFT_DOCKERD_CONFIG name another
// engine, of a version that Debian does not have for instance.
func TestDocker(t *testing.T) {
	c := build(t, spec{
		hosts: 3, flags: []string{"--ip-masq"},
		config: `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": {"Type": "udp"}}`,
	})
	a, b := c.newEngine(0), c.newEngine(1)

	// Whichever comes first switches forwarding on, and if that is Docker, it
	// sets FORWARD to DROP. (Docker 29 with nftables does neither.)
	if os.Getenv(dockerdVariable) == "" {
		if err := c.hosts[1].Sysctl("net/ipv4/ip_forward", "0"); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	c.startWeftd(0)
	c.startWeftd(2)
	c.waitReady(0)
	if out := c.weftdDocker(a, "docker-opts", "--daemon-json="+a.config); !strings.Contains(out, "systemctl restart docker") {
		t.Errorf("docker-opts does not say that Docker must be restarted: %s", out)
	}
	a.start()
	b.ready()
	c.startWeftd(1)
	c.waitReady(1)
	a.ready()
	c.weftdDocker(b, "docker-network", "create")

	for _, e := range []*engine{a, b} {
		e.makeImage()
	}
	a.serve("box-a")
	b.serve("box-b", "--network=weft")
	c.attach(2, c.waitReady(2))
	c.adopt(a, b)
	c.checkDocker()
	if policy, err := c.hosts[1].Output("iptables", "-S", "FORWARD"); err != nil || os.Getenv(dockerdVariable) == "" && !strings.Contains(policy, "-P FORWARD DROP") {
		t.Errorf("Docker that starts before weftd did not set FORWARD to DROP: %v\n%s", err, policy)
	}
	for _, i := range []int{0, 1} {
		out, err := c.hosts[i].Command(t.Context(), weftdPath, "status", "--control-socket="+c.weftds[i].ControlSocket)
		if err != nil || !strings.Contains(string(out), "WEFT-OVERLAY") {
			t.Errorf("weftd status says nothing of what Docker drops: %v\n%s", err, out)
		}
	}

	t.Run("one bridge for one subnet", func(t *testing.T) {
		for _, refused := range []struct {
			engine *engine
			args   []string
			says   string
		}{
			{a, []string{"docker-network", "create"}, "docker0"},
			{b, []string{"docker-opts", "--daemon-json=" + b.config}, "docker-network remove weft"},
			{b, []string{"docker-network", "create", "second"}, "docker-network remove weft"},
			{b, []string{"docker-network", "remove"}, "containers are on it: box-b"},
		} {
			out, err := c.tryWeftdDocker(refused.engine, refused.args...)
			if err == nil || !strings.Contains(err.Error(), refused.says) {
				t.Errorf("weftd %v: %s %v, want an error that says %q", refused.args, out, err, refused.says)
			}
		}
		if out := c.weftdDocker(a, "docker-opts", "--daemon-json="+a.config); !strings.Contains(out, "nothing to change") {
			t.Errorf("docker-opts, again: %s", out)
		}
		if out := c.weftdDocker(b, "docker-network", "create"); !strings.Contains(out, "is there already") {
			t.Errorf("docker-network create, again: %s", out)
		}
	})
	t.Run("restarts", func(t *testing.T) {
		for i, e := range []*engine{a, b} {
			// The other order at each host.
			steps := []func(){
				func() { c.stopWeftd(i); c.startWeftd(i); c.waitReady(i) },
				func() { e.stop(); e.start(); e.ready(); e.docker("start", e.containers[0]) },
			}
			steps[i%2]()
			steps[(i+1)%2]()
		}
		c.adopt(a, b)
		c.checkDocker()
	})
	t.Run("another lease", func(t *testing.T) {
		w := c.weftds[1]
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := w.Host.Command(ctx, w.Binary, "lease", "renew", "--new-subnet", "--control-socket="+w.ControlSocket); err != nil {
			t.Fatal(err)
		}
		if _, err := c.tryWeftdDocker(b, "docker-network", "create"); err == nil || !strings.Contains(err.Error(), "containers are on it: box-b") {
			t.Errorf("docker-network create with a container on the former subnet: %v", err)
		}
		c.weftdDocker(b, "docker-network", "create", "--force")
		c.adopt(a, b)
		c.checkDocker()
		b.docker("rm", "--force", "box-b")
		for _, says := range []string{"removed network weft", "there is no network weft"} {
			if out := c.weftdDocker(b, "docker-network", "remove"); !strings.Contains(out, says) {
				t.Errorf("docker-network remove: %s, want %q", out, says)
			}
		}
	})
}

// weftdDocker runs one of weftd's Docker commands on an engine's host.
func (c *cluster) weftdDocker(e *engine, args ...string) string {
	c.t.Helper()
	out, err := c.tryWeftdDocker(e, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) tryWeftdDocker(e *engine, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), dockerPatience)
	defer cancel()
	w := c.weftds[e.host.Number-1]
	args = append(args, "--subnet-file="+e.host.Dir+"/subnet.env", "--docker-socket="+e.socket)
	if args[0] == "docker-network" && args[1] == "create" {
		args = append(args, "--control-socket="+e.host.Dir+"/weftd.sock")
	}
	if args[0] == "docker-network" && args[1] == "remove" {
		args = append(args[:len(args)-2], args[len(args)-1])
	}
	out, err := e.host.Command(ctx, w.Binary, args...)
	return string(out), err
}

func (c *cluster) stopWeftd(i int) {
	c.t.Helper()
	if err := c.weftds[i].Stop(); err != nil {
		c.t.Fatal(err)
	}
}

// adopt finds the containers of the engines, after each of their starts.
func (c *cluster) adopt(a, b *engine) {
	c.t.Helper()
	c.hosts[0].Container = a.namespace("box-a", "bridge")
	c.hosts[1].Container = b.namespace("box-b", "weft")
}

// checkDocker goes every way that containers on these hosts have.
func (c *cluster) checkDocker() {
	c.t.Helper()
	c.reachAll()
	outside := netip.MustParseAddr("192.0.2.254")
	for i, from := range c.hosts {
		if !from.Container.IPv6.IsValid() {
			c.t.Errorf("the container of host%d has no IPv6 address", from.Number)
		}
		for _, to := range c.hosts {
			if from == to {
				continue
			}
			if seen := c.sourceSeen(from.Container.Namespace, to.Container.Namespace, to.Container.IPv4); seen != from.Container.IPv4 {
				c.t.Errorf("host%d sees the container of host%d as %s, want %s", to.Number, from.Number, seen, from.Container.IPv4)
			}
		}
		c.reach(from.Container.Namespace, outside)
		if seen := c.sourceSeen(from.Container.Namespace, c.Switch, outside); seen != from.IPv4 {
			c.t.Errorf("outside, the container of host%d is %s, want its host %s", from.Number, seen, from.IPv4)
		}
		if i == 2 {
			continue
		}
		// Published on the host's address, and by the container's own.
		name := map[int]string{0: "box-a", 1: "box-b"}[i]
		for what, client := range map[string]*lab.Namespace{
			"another host": c.hosts[2].Namespace, "a container elsewhere": c.hosts[2].Container.Namespace, "outside": c.Switch,
		} {
			c.fetch(client, from.IPv4, 8080, name, what)
		}
		c.fetch(c.hosts[2].Container.Namespace, from.Container.IPv4, 80, name, "a container elsewhere")
		c.fetch(c.hosts[2].Namespace, from.Container.IPv4, 80, name, "another host")
	}
}

// fetch waits until a namespace gets a page by HTTP.
func (c *cluster) fetch(from *lab.Namespace, addr netip.Addr, port uint16, want, who string) {
	c.t.Helper()
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return from.Dial(ctx, net.Dialer{}, network, addr)
		},
	}}
	url := "http://" + netip.AddrPortFrom(addr, port).String() + "/index.html"
	c.eventually(func() string {
		r, err := client.Get(url)
		if err != nil {
			return who + ": " + err.Error()
		}
		defer r.Body.Close()
		page, err := io.ReadAll(r.Body)
		if err != nil || strings.TrimSpace(string(page)) != want {
			return who + ": " + url + " is " + string(page)
		}
		return ""
	})
}
