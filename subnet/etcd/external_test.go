package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/subnettest"
)

// external is an etcd cluster of the distribution's binary, 3.4 in Debian 12.
type external struct {
	endpoints []string
	procs     []*exec.Cmd
}

func startExternal(t *testing.T, members int) *external {
	t.Helper()
	bin := labtest.Program(t, "etcd-server", "etcd")
	ports := closedPorts(t, 2*members)
	e := &external{endpoints: ports[:members]}
	peers := ports[members:]
	var cluster []string
	for i := range members {
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i, url := range e.endpoints {
		log := &bytes.Buffer{}
		cmd := exec.Command(bin, "--data-dir", t.TempDir(), "--name", fmt.Sprintf("m%d", i),
			"--logger", "zap", "--log-level", "warn",
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","))
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		e.procs = append(e.procs, cmd)
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
			if t.Failed() {
				t.Logf("etcd %d logged:\n%s", i, log)
			}
		})
	}
	for _, url := range e.endpoints {
		waitFor(t, "etcd", func() string {
			c, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), time.Second)
			if err != nil {
				return err.Error()
			}
			c.Close()
			return ""
		})
	}
	return e
}

// TestExternal keeps the contract, and a quiet watch, on an etcd that is not
// ours and is older than the client.
func TestExternal(t *testing.T) {
	t.Parallel() // has its own etcd
	e := startExternal(t, 1)
	c := dial(t, clientv3.Config{Endpoints: e.endpoints})
	cfg := Config{Endpoints: e.endpoints}
	subnettest.RunRegistry(t, func(t *testing.T) subnettest.Harness {
		cfg.Prefix = newPrefix()
		return harness(t, open(t, cfg), c)
	})

	staysQuiet(t, cfg)
}

// TestLeaderKilled kills the leader of three members.
func TestLeaderKilled(t *testing.T) {
	t.Parallel() // has its own etcd
	e := startExternal(t, 3)
	r := open(t, Config{Endpoints: e.endpoints})
	c := dial(t, clientv3.Config{Endpoints: e.endpoints})
	f := follow(t, r)
	a := announce(t, r, subnet.Node{ID: "one", Instance: "i"}, 2*time.Minute)

	var leader int
	for i, url := range e.endpoints {
		st, err := c.Status(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if st.Leader == st.Header.MemberId {
			leader = i
		}
	}
	e.procs[leader].Process.Kill()
	e.procs[leader].Wait()

	waitFor(t, "a write after the leader's end", func() string {
		snap, err := r.Snapshot(t.Context())
		if err == nil {
			_, err = r.Create(t.Context(), mustKey(t, "10.5.1.0-24"), someAttrs, time.Hour, snap.Revision)
		}
		if err != nil && !errors.Is(err, subnet.ErrChanged) {
			oneLine(t, err)
			return err.Error()
		}
		return ""
	})
	f.until(t, "the lease", f.has("10.5.1.0-24"))
	if n := f.listed(); n != 1 {
		t.Errorf("%d lists, want one", n)
	}
	a.running(t)
}
