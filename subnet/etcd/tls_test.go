package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet/etcd/embedded"
	"github.com/weftnet/weft/subnet/etcd/pki"
)

func initPKI(t *testing.T) pki.Files {
	t.Helper()
	f, err := pki.Init(filepath.Join(t.TempDir(), "pki"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// install copies a pair over another, key first.
func install(t *testing.T, from, to pki.Pair) {
	t.Helper()
	for src, dst := range map[string]string{from.Key: to.Key, from.Cert: to.Cert} {
		b, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dst, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// issueExpired writes a server's pair that expired yesterday.
func issueExpired(t *testing.T, ca, to pki.Pair) {
	t.Helper()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	parent, err := x509.ParseCertificate(read(ca.Cert))
	must(err)
	caKey, err := x509.ParsePKCS8PrivateKey(read(ca.Key))
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		NotBefore:   time.Now().Add(-48 * time.Hour),
		NotAfter:    time.Now().Add(-24 * time.Hour),
		IPAddresses: []net.IP{{127, 0, 0, 1}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, parent, &key.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	must(os.WriteFile(to.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	must(os.WriteFile(to.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// tlsMember starts a member on https that wants client certificates if mutual.
func tlsMember(t *testing.T, f pki.Files, mutual bool) *embedded.Member {
	t.Helper()
	cfg := embedded.Config{
		DataDir:      t.TempDir(),
		ListenClient: []string{"https://127.0.0.1:0"},
		CertFile:     f.Server.Cert, KeyFile: f.Server.Key,
	}
	if mutual {
		cfg.CAFile = f.CA.Cert
	}
	return ownMember(t, cfg)
}

// TestRotation changes every certificate under a running registry and a
// running member, from ones that the other side refuses to good ones.
func TestRotation(t *testing.T) {
	t.Parallel() // has its own etcd
	f, strangers := initPKI(t), initPKI(t)
	live := initPKI(t) // the files in use; their authority is f's
	install(t, f.CA, live.CA)
	install(t, strangers.Server, live.Server)
	install(t, strangers.Client, live.Client)
	m := tlsMember(t, live, true)

	p := newProxy(t, m.Endpoints()[0])
	r := open(t, Config{
		Endpoints: []string{p.url},
		CertFile:  live.Client.Cert, KeyFile: live.Client.Key, CAFile: live.CA.Cert,
	})
	steps := []struct {
		name string
		do   func()
		want string // part of the error, "" for none
	}{
		{"server of a stranger", func() {}, "its certificate is signed by an authority unknown here: give that authority's file with --etcd-cafile"},
		{"client of a stranger", func() { install(t, f.Server, live.Server) }, "it refuses this host's certificate: give one signed by its client authority with --etcd-certfile and --etcd-keyfile"},
		{"all good", func() { install(t, f.Client, live.Client) }, ""},
		{"server expired", func() { issueExpired(t, f.CA, live.Server) }, "its certificate has expired or is not yet valid: renew it, or set this host's clock"},
		{"server renewed", func() { install(t, f.Server, live.Server) }, ""},
		{"key of another certificate", func() { install(t, pki.Pair{Cert: f.Client.Cert, Key: strangers.Client.Key}, live.Client) }, "read etcd client certificate"},
		{"client renewed", func() { install(t, f.Client, live.Client) }, ""},
		{"authority of strangers", func() { install(t, strangers.CA, live.CA) }, "authority unknown here"},
		{"authority renewed", func() { install(t, f.CA, live.CA) }, ""},
	}
	for _, s := range steps {
		s.do()
		p.cut()
		waitFor(t, s.name, func() string {
			_, err := r.Snapshot(t.Context())
			switch {
			case err == nil && s.want == "", err != nil && s.want != "" && strings.Contains(err.Error(), s.want):
				return ""
			case err == nil:
				return "the call worked, want error " + s.want
			}
			oneLine(t, err)
			return err.Error()
		})
	}
}

// waitFor waits until ok returns "", while a connection that has failed waits
// for its next try.
func waitFor(t *testing.T, what string, ok func() string) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		problem := ok()
		if problem == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, problem)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); strings.ContainsAny(s, "\n") || strings.Contains(s, "rpc error") || strings.Contains(s, "transport:") {
		t.Errorf("not one clear line: %q", s)
	}
}

// TestServerTLSOnly needs no client certificate.
func TestServerTLSOnly(t *testing.T) {
	t.Parallel() // has its own etcd
	f := initPKI(t)
	m := tlsMember(t, f, false)
	r := open(t, Config{Endpoints: m.Endpoints(), CAFile: f.CA.Cert})
	if _, err := r.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
	// The same without a scheme, which the CA file makes https.
	r = open(t, Config{Endpoints: []string{strings.TrimPrefix(m.Endpoints()[0], "https://")}, CAFile: f.CA.Cert})
	if _, err := r.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
	follow(t, r)
}
