package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// A rack is two machines on one underlay, with the package at hand.
type rack struct {
	*cluster
	machines [2]*machine
	deb      string // its path in the machines
}

type machine struct {
	*lab.Machine
	r *rack
}

func newRack(t *testing.T) *rack {
	labtest.RequireRoot(t)
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		t.Fatal("systemd-nspawn is missing: .ci/packages installs it")
	}
	dist := t.TempDir()
	build := exec.CommandContext(t.Context(), "../../configs/package/build", filepath.Dir(weftdPath), dist)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the package: %v\n%s", err, out)
	}
	debs, err := filepath.Glob(filepath.Join(dist, "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages built: %v, %v", debs, err)
	}
	c, err := lab.NewCluster(lab.Spec{Name: clusterName(), Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := &rack{cluster: &cluster{Cluster: c, t: t, hosts: c.Hosts}, deb: "/mnt/" + filepath.Base(debs[0])}
	r.removeAtEnd()
	for i, h := range c.Hosts {
		m, err := h.Boot(dist)
		if err != nil {
			t.Fatal(err)
		}
		r.machines[i] = &machine{m, r}
		t.Cleanup(func() {
			if t.Failed() {
				log, err := m.Command(context.Background(), "journalctl", "--no-pager", "--lines=60")
				t.Logf("the end of the journal of host%d: %v\n%s", h.Number, err, log)
			}
			if err := m.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, m := range r.machines {
		m.waitBooted()
	}
	return r
}

// succeeds tries until there is no error.
func (r *rack) succeeds(try func() error) {
	r.t.Helper()
	r.eventually(func() string {
		if err := try(); err != nil {
			return err.Error()
		}
		return ""
	})
}

// run runs a command in the machine, which must succeed.
func (m *machine) run(name string, args ...string) string {
	m.r.t.Helper()
	ctx, cancel := context.WithTimeout(m.r.t.Context(), patience) // dpkg syncs
	defer cancel()
	out, err := m.Command(ctx, name, args...)
	if err != nil {
		m.r.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func (m *machine) property(name string) string {
	m.r.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "--property="+name, "weftd"))
}

func (m *machine) read(path string) string {
	m.r.t.Helper()
	return m.run("cat", path)
}

func (m *machine) write(path, text string) {
	m.r.t.Helper()
	m.run("sh", "-c", `mkdir -p "${1%/*}" && printf %s "$2" >"$1"`, "sh", path, text)
}

func (m *machine) subnetEnv() lab.SubnetEnv {
	m.r.t.Helper()
	file := filepath.Join(m.r.t.TempDir(), "subnet.env")
	if err := os.WriteFile(file, []byte(m.read("/run/flannel/subnet.env")), 0o644); err != nil {
		m.r.t.Fatal(err)
	}
	env, err := lab.ReadSubnetEnv(file)
	if err != nil {
		m.r.t.Fatal(err)
	}
	return env
}

func (m *machine) waitBooted() {
	m.r.t.Helper()
	ctx, cancel := context.WithTimeout(m.r.t.Context(), patience)
	defer cancel()
	if err := m.WaitBooted(ctx); err != nil {
		m.r.t.Fatal(err)
	}
}

// waitReady waits until weftd in the machine carries packets.
func (m *machine) waitReady() {
	m.r.t.Helper()
	m.r.succeeds(func() error {
		_, err := m.Command(m.r.t.Context(), "weftd", "status")
		return err
	})
}

func (m *machine) wantUnit(active, enabled string) {
	m.r.t.Helper()
	if a, e := m.property("ActiveState"), m.property("UnitFileState"); a != active || e != enabled {
		m.r.t.Errorf("weftd.service is %s and %s, want %s and %s", a, e, active, enabled)
	}
}

// reboot returns when systemd is there again.
func (m *machine) reboot() {
	m.r.t.Helper()
	before, err := m.BootID(m.r.t.Context())
	if err != nil {
		m.r.t.Fatal(err)
	}
	m.run("systemctl", "reboot")
	m.r.succeeds(func() error {
		now, err := m.BootID(m.r.t.Context())
		if err == nil && now == before {
			err = errors.New("the machine has not gone down")
		}
		return err
	})
	m.waitBooted()
}

// disturb does something that ends the daemon, and waits for another that has
// the same subnet and carries the same stream.
func (m *machine) disturb(stream *traffic.Steady, do func()) {
	m.r.t.Helper()
	pid, env := m.property("MainPID"), m.subnetEnv()
	do()
	m.r.succeeds(func() error {
		if now := m.property("MainPID"); now == pid || now == "0" {
			return fmt.Errorf("the daemon's pid was %s and is %s", pid, now)
		}
		return nil
	})
	m.waitReady()
	if now := m.subnetEnv(); now != env {
		m.r.t.Errorf("the subnet file is now %v, was %v", now, env)
	}
	ctx, cancel := context.WithTimeout(m.r.t.Context(), patience) // TCP backs off
	defer cancel()
	if err := stream.Advance(ctx, 100*time.Millisecond); err != nil {
		m.r.t.Fatal(err)
	}
}

// traces lists the files of weft in the machine, but for logs.
func (m *machine) traces(t *testing.T) string {
	t.Helper()
	written, err := m.Written()
	if err != nil {
		t.Fatal(err)
	}
	var traces []string
	for _, path := range append(written, strings.Fields(m.run("find", "/run", "-name", "*weft*", "-o", "-name", "*flannel*"))...) {
		if containsAny(path, "weft", "flannel") && !containsAny(path, "/var/log/", "/var/cache/apt", "/run/systemd/", "/run/log/") {
			traces = append(traces, path)
		}
	}
	return strings.Join(traces, "\n")
}
