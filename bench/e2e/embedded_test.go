package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// The README's two hosts: etcd inside weftd on the first, reached by TLS.
func TestQuickStart(t *testing.T) {
	labtest.RequireRoot(t)
	lc, err := lab.NewCluster(lab.Spec{Name: clusterName(), Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Cluster: lc, t: t, hosts: lc.Hosts, weftds: make([]*lab.Weftd, 2), endpoint: "https://192.0.2.1:2379"}
	c.removeAtEnd()
	a, b := c.hosts[0], c.hosts[1]
	pki := filepath.Join(a.Dir, "pki")
	file := func(name string) string { return filepath.Join(pki, name) }
	client := []string{"--etcd-endpoints=" + c.endpoint, "--etcd-cafile=" + file("ca.crt"),
		"--etcd-certfile=" + file("client.crt"), "--etcd-keyfile=" + file("client.key")}

	if _, err := a.Command(t.Context(), weftdPath, "etcd", "init", "--dir", pki, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	start := func(i int, flags ...string) {
		t.Helper()
		if c.weftds[i], err = c.hosts[i].StartWeftd(weftdPath, append(flags, "--ip-masq")...); err != nil {
			t.Fatal(err)
		}
	}
	start(0, "--etcd-embedded", "--etcd-embedded-listen="+c.endpoint, "--etcd-embedded-cert-file="+file("server.crt"),
		"--etcd-embedded-key-file="+file("server.key"), "--etcd-embedded-ca-file="+file("ca.crt"))
	c.notReady(0, "weftd config set")
	config := append([]string{"config", "set", `{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}`}, client...)
	if _, err := a.Command(t.Context(), weftdPath, config...); err != nil {
		t.Fatal(err)
	}
	start(1, client...)
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	if out, err := b.Command(t.Context(), weftdPath, "status", "--control-socket="+c.weftds[1].ControlSocket); err != nil || !strings.Contains(string(out), a.IPv4.String()) {
		t.Errorf("weftd status does not show the peer: %v\n%s", err, out)
	}

	// Without a certificate from that authority nobody gets in.
	if _, err := b.Command(t.Context(), weftdPath, "config", "get", "--etcd-endpoints="+c.endpoint, "--etcd-cafile="+file("ca.crt")); err == nil {
		t.Error("etcd takes a client without a certificate")
	}
}

func TestEmbeddedEtcdIsNotOpenByDefault(t *testing.T) {
	c := build(t, spec{hosts: 1})
	p, err := c.hosts[0].Run("open", weftdPath, "--etcd-embedded", "--etcd-embedded-listen=http://192.0.2.1:2379",
		"--state-dir="+c.hosts[0].Dir+"/open")
	if err != nil {
		t.Fatal(err)
	}
	if p.Err() == nil || !strings.Contains(p.LogTail(3), "--etcd-embedded-insecure") {
		t.Errorf("it ended with %v: %s", p.Err(), p.LogTail(3))
	}
}
