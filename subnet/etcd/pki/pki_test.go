package pki

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	der, err := readPEM(path, blockCert)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	f, err := Init(dir, []string{"10.0.0.1", "etcd.example.net", "fd00::1", " 10.0.0.1 ", "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	if !f.NewCA || f.Server.Cert != filepath.Join(dir, "server.crt") {
		t.Errorf("got %+v", f)
	}
	for path, want := range map[string]os.FileMode{
		dir: 0o700, f.CA.Key: 0o600, f.Server.Key: 0o600, f.Client.Key: 0o600,
		f.CA.Cert: 0o644, f.Server.Cert: 0o644, f.Client.Cert: 0o644,
	} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, error %v; want mode %v", path, fi.Mode(), err, want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 6 {
		t.Errorf("%d files, error %v; want 6", len(entries), err)
	}

	ca, server, client := parse(t, f.CA.Cert), parse(t, f.Server.Cert), parse(t, f.Client.Cert)
	for c, want := range map[*x509.Certificate]time.Duration{ca: caLifetime, server: leafLifetime, client: leafLifetime} {
		if got := c.NotAfter.Sub(c.NotBefore); got != want+backdate {
			t.Errorf("%s is valid for %v, want %v", c.Subject, got, want+backdate)
		}
		if c.SerialNumber.BitLen() < 64 {
			t.Errorf("%s has the serial number %v", c.Subject, c.SerialNumber)
		}
	}
	if !f.Server.NotAfter.Truncate(time.Second).Equal(server.NotAfter) {
		t.Errorf("server expires at %v, reported as %v", server.NotAfter, f.Server.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, tt := range []struct {
		cert *x509.Certificate
		name string
		use  x509.ExtKeyUsage
		ok   bool
	}{
		{server, "10.0.0.1", x509.ExtKeyUsageServerAuth, true},
		{server, "fd00::1", x509.ExtKeyUsageServerAuth, true},
		{server, "127.0.0.1", x509.ExtKeyUsageServerAuth, true},
		{server, "::1", x509.ExtKeyUsageServerAuth, true},
		{server, "localhost", x509.ExtKeyUsageServerAuth, true},
		{server, "etcd.example.net", x509.ExtKeyUsageServerAuth, true},
		{server, "", x509.ExtKeyUsageClientAuth, true}, // the daemon beside the member
		{client, "", x509.ExtKeyUsageClientAuth, true},
		{server, "10.0.0.2", x509.ExtKeyUsageServerAuth, false},
		{client, "", x509.ExtKeyUsageServerAuth, false},
	} {
		name := tt.name
		if net.ParseIP(name) != nil {
			name = "[" + name + "]"
		}
		_, err := tt.cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{tt.use}})
		if (err == nil) != tt.ok {
			t.Errorf("%s as %q for %v: error %v, want ok %t", tt.cert.Subject, tt.name, tt.use, err, tt.ok)
		}
	}
	if want := []string{"etcd.example.net", "localhost"}; !slices.Equal(server.DNSNames, want) || len(server.IPAddresses) != 4 {
		t.Errorf("server has names %q and addresses %v", server.DNSNames, server.IPAddresses)
	}
}

// TestInitAgain renews: the authority stays, certificates and keys are new.
func TestInitAgain(t *testing.T) {
	dir := t.TempDir()
	f, err := Init(dir, []string{"10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	read := func() map[string][]byte {
		all := map[string][]byte{}
		for _, path := range []string{f.CA.Cert, f.CA.Key, f.Server.Cert, f.Server.Key, f.Client.Cert, f.Client.Key} {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[path] = b
		}
		return all
	}
	before := read()
	again, err := Init(dir, []string{"10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	if again.NewCA || !again.CA.NotAfter.Equal(parse(t, f.CA.Cert).NotAfter) {
		t.Errorf("second run: %+v", again)
	}
	for path, b := range read() {
		isCA := path == f.CA.Cert || path == f.CA.Key
		if same := bytes.Equal(b, before[path]); same != isCA {
			t.Errorf("%s unchanged: %t, want %t", path, same, isCA)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(parse(t, f.CA.Cert))
	if _, err := parse(t, f.Server.Cert).Verify(x509.VerifyOptions{DNSName: "[10.0.0.2]", Roots: roots}); err != nil {
		t.Error(err)
	}
}

func TestInitErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, f Files)
		want  string
	}{
		"no key":    {func(t *testing.T, f Files) { remove(t, f.CA.Key) }, "is here but its key"},
		"no cert":   {func(t *testing.T, f Files) { remove(t, f.CA.Cert) }, "is here but its certificate"},
		"bad key":   {func(t *testing.T, f Files) { write(t, f.CA.Key, "nonsense") }, `holds no PEM block of type "PRIVATE KEY"`},
		"bad cert":  {func(t *testing.T, f Files) { write(t, f.CA.Cert, "nonsense") }, `holds no PEM block of type "CERTIFICATE"`},
		"other key": {func(t *testing.T, f Files) { copyFile(t, f.Client.Key, f.CA.Key) }, "does not belong to its certificate"},
		"no CA": {func(t *testing.T, f Files) {
			copyFile(t, f.Client.Cert, f.CA.Cert)
			copyFile(t, f.Client.Key, f.CA.Key)
		}, "is not the certificate of an authority"},
		"expired":   {func(t *testing.T, f Files) { expire(t, f.CA) }, "expired on"},
		"not a dir": {func(t *testing.T, f Files) { dir := filepath.Dir(f.CA.Key); os.RemoveAll(dir); write(t, dir, "") }, "make certificate directory"},
		"unparseable": {func(t *testing.T, f Files) {
			write(t, f.CA.Key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
		}, "parse the authority's key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "pki")
			f, err := Init(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, f)
			if _, err := Init(dir, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestBadHosts(t *testing.T) {
	for _, h := range []string{"", "a b", "10.0.0.1/24", "10.0.0.256", "10.0.0", "a..b", "-a", "fe80::1%eth0", "https://10.0.0.1", "*.example.net", strings.Repeat("a", 64)} {
		dir := filepath.Join(t.TempDir(), "pki")
		if _, err := Init(dir, []string{h}); err == nil || !strings.Contains(err.Error(), "neither an IP address nor a DNS name") {
			t.Errorf("host %q: error %v", h, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("host %q: something was made all the same", h)
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}

// expire makes an authority whose time is over.
func expire(t *testing.T, p Pair) {
	t.Helper()
	if _, err := makeCA(p, time.Now().Add(-caLifetime-time.Hour)); err != nil {
		t.Fatal(err)
	}
}
