package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
)

// Two machines with systemd and the package, as docs/systemd.md has it: the
// first runs etcd inside weftd, and the second is treated badly.
func TestSystemd(t *testing.T) {
	r := newRack(t)
	a, b := r.machines[0], r.machines[1]
	for _, m := range r.machines {
		m.run("apt-get", "install", "-y", "-q", r.deb)
		m.wantUnit("inactive", "disabled") // it has to be told where etcd is
		if plugin := m.run("readlink", "-f", "/usr/lib/cni/flannel"); plugin != "/usr/lib/cni/weft-cni\n" {
			t.Errorf("the CNI plugin flannel is %s", plugin)
		}
	}

	a.run("weftd", "etcd", "init", "--dir", "/etc/weft/pki", a.Host.IPv4.String())
	a.run("install", "-D", "-m", "0644", "-t", "/etc/systemd/system/weftd.service.d", "/usr/share/weft/embedded-etcd.conf")
	a.run("systemctl", "daemon-reload")
	a.run("systemctl", "enable", "weftd")
	a.run("systemctl", "start", "--no-block", "weftd")
	client := []string{"--etcd-endpoints=https://" + a.Host.IPv4.String() + ":2379", "--etcd-cafile=/etc/weft/pki/ca.crt",
		"--etcd-certfile=/etc/weft/pki/client.crt", "--etcd-keyfile=/etc/weft/pki/client.key"}
	r.succeeds(func() error {
		_, err := a.Command(t.Context(), "weftd", append([]string{"config", "set", "/usr/share/weft/network/fallback.json"}, client...)...)
		return err
	})
	a.waitReady()
	a.wantUnit("active", "enabled")

	for _, file := range []string{"ca.crt", "client.crt", "client.key"} {
		b.write("/etc/weft/pki/"+file, a.read("/etc/weft/pki/"+file))
	}
	options := fmt.Sprintf("WEFTD_ETCD_ENDPOINTS=https://%s:2379\n", a.Host.IPv4) +
		"WEFTD_ETCD_CAFILE=/etc/weft/pki/ca.crt\nWEFTD_ETCD_CERTFILE=/etc/weft/pki/client.crt\nWEFTD_ETCD_KEYFILE=/etc/weft/pki/client.key\n" +
		"WEFTD_IP_MASQ=true\n"
	b.write("/etc/default/weftd", options)
	b.run("systemctl", "enable", "--now", "weftd") // returns when packets are carried
	b.run("weftd", "status")
	if told := b.property("StatusText"); told != "ready" {
		t.Errorf("systemd was told %q", told)
	}
	if out := b.run("systemd-analyze", "verify", "weftd.service"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for _, m := range r.machines {
		if err := m.Host.AttachContainer(m.subnetEnv()); err != nil {
			t.Fatal(err)
		}
	}
	r.reachAll()
	for _, m := range r.machines {
		var s status
		if err := json.Unmarshal([]byte(m.run("weftd", "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		gso := false
		for _, c := range s.Backend.Capabilities {
			if !c.On {
				t.Errorf("with the unit's restrictions %s is off: %s", c.Name, c.Why)
			}
			gso = gso || c.Name == "assist_gso"
		}
		if !gso {
			t.Errorf("no word of superpackets: %+v", s.Backend.Capabilities)
		}
	}

	t.Run("sysctl", func(t *testing.T) { sysctlsStay(t, b) })
	stream, err := traffic.StartSteady(t.Context(), a.Host.Container.Namespace, b.Host.Container.Namespace, b.Host.Container.IPv4, traffic.SegmentPortion)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	t.Run("restart", func(t *testing.T) {
		b.disturb(stream, func() { b.run("systemctl", "restart", "weftd") })
	})
	t.Run("kill", func(t *testing.T) {
		b.disturb(stream, func() { b.run("kill", "-KILL", b.property("MainPID")) })
	})
	t.Run("wedged", func(t *testing.T) {
		b.disturb(stream, func() { b.run("kill", "-STOP", b.property("MainPID")) })
		if log := b.run("journalctl", "--unit=weftd", "--no-pager"); !strings.Contains(log, "Watchdog timeout (limit 2s)!") {
			t.Errorf("it was not the watchdog that killed it:\n%s", log)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		b.disturb(stream, func() { b.run("dpkg", "--install", r.deb) })
		if now := b.read("/etc/default/weftd"); now != options {
			t.Errorf("the options are now %q", now)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		a.disturb(stream, a.reboot)
	})
	t.Run("reboot without etcd", func(t *testing.T) {
		a.run("systemctl", "stop", "weftd") // the kernel's VXLAN goes on
		b.disturb(stream, b.reboot)
		if told := b.run("weftd", "status"); !strings.Contains(told, "etcd has not answered since weftd started") {
			t.Errorf("status does not say what it goes on with:\n%s", told)
		}
		a.run("systemctl", "start", "weftd")
		a.waitReady()
	})
	if _, err := stream.Finish(t.Context()); err != nil {
		t.Errorf("the stream that lived through all this: %v", err)
	}
	t.Run("misconfigured", func(t *testing.T) { endsForGood(t, b, options) })
	t.Run("failing", func(t *testing.T) { triesSlowly(t, b, options) })
	for _, m := range r.machines {
		log := m.run("journalctl", "--unit=weftd", "--no-pager")
		if containsAny(log, "not permitted", "ermission denied", "ead-only file system", "address family not supported") {
			t.Errorf("the unit forbids what weftd needs:\n%s", log)
		}
	}
	t.Run("remove", func(t *testing.T) { removes(t, b) })
}

// sysctlsStay does what udev does for each new device, beside a setting for all.
func sysctlsStay(t *testing.T, m *machine) {
	m.write("/etc/sysctl.d/99-strict.conf", "net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.*.accept_local = 0\n")
	out := m.run("sh", "-c", "SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/flannel0 2>&1")
	if !strings.Contains(out, "net/ipv4/conf/flannel0/rp_filter' to '2'") || strings.Contains(out, "net/ipv4/conf/flannel0/rp_filter' to '1'") {
		t.Errorf("settings for flannel0:\n%s", out)
	}
	m.run("/lib/systemd/systemd-sysctl")
	for key, want := range map[string]string{"lo/accept_local": "1", "flannel0/accept_local": "1", gsoDevice + "/rp_filter": "1"} {
		if now := m.run("cat", "/proc/sys/net/ipv4/conf/"+key); now != want+"\n" {
			t.Errorf("%s is %s after all settings were made again", key, now)
		}
	}
}

// endsForGood: with options that make no sense there is no point in trying again.
func endsForGood(t *testing.T, m *machine, options string) {
	m.write("/etc/default/weftd", "WEFTD_IP_MASQ=perhaps\n")
	m.Command(t.Context(), "systemctl", "restart", "weftd") // which may fail or not: the process was started
	m.r.succeeds(func() error {
		if state := m.property("ActiveState"); state != "failed" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	if status := m.property("ExecMainStatus"); status != "78" {
		t.Errorf("exit status %s", status)
	}
	m.write("/etc/default/weftd", options)
	m.run("systemctl", "start", "weftd")
	m.waitReady()
	m.r.reachAll()
}

// triesSlowly: what fails for a reason of its own is not started ten times a
// second, and an end of the reason is noticed.
func triesSlowly(t *testing.T, m *machine, options string) {
	began := time.Now()
	m.write("/etc/default/weftd", options+"WEFTD_HEALTHZ_IP=203.0.113.1\nWEFTD_HEALTHZ_PORT=8280\n")
	m.run("systemctl", "restart", "--no-block", "weftd")
	m.r.succeeds(func() error {
		if state, status := m.property("SubState"), m.property("ExecMainStatus"); state != "stop-post" || status != "1" {
			return fmt.Errorf("it is %s, with exit status %s", state, status)
		}
		return nil
	})
	m.write("/etc/default/weftd", options)
	m.waitReady()
	took := time.Since(began)
	// One, if the machine is quick; ExecStopPost sleeps for 5 s before each. The watchdog
	// of a busy machine may add some.
	if n, err := strconv.Atoi(m.property("NRestarts")); err != nil || n < 1 || n > int(took/(5*time.Second))+2 {
		t.Errorf("%d restarts within %v, %v", n, took, err)
	}
}

// removes takes the package off and looks for what is left.
func removes(t *testing.T, m *machine) {
	m.run("systemctl", "stop", "weftd")
	m.wantUnit("inactive", "enabled")
	if env := m.subnetEnv(); !env.Subnet.IsValid() {
		t.Errorf("stopping took the subnet file away: %v", env)
	}
	if routes := m.r.weftRoutes(m.Host.Number - 1); len(routes) == 0 {
		t.Error("stopping leaves no route that keeps packets from leaking")
	}
	m.run("systemctl", "start", "weftd")

	m.run("apt-get", "remove", "-y", "-q", "weft")
	if routes := m.r.weftRoutes(m.Host.Number - 1); len(routes) > 0 {
		t.Errorf("routes left: %v", routes)
	}
	if rules, err := m.Host.Output("nft", "list", "ruleset"); err != nil || containsAny(rules, "weft", "10.5.") {
		t.Errorf("rules left: %v\n%s", err, rules)
	}
	if load := m.property("LoadState"); load != "not-found" {
		t.Errorf("the unit is still %s", load)
	}
	kept := m.traces(t)
	for _, want := range []string{"/etc/default/weftd", "/var/lib/weft/node.json"} {
		if !strings.Contains(kept, want) {
			t.Errorf("without --purge %s is gone; there are\n%s", want, kept)
		}
	}
	m.run("dpkg", "--purge", "weft")
	if left := m.traces(t); left != "" {
		t.Errorf("left after purging:\n%s", left)
	}
}
