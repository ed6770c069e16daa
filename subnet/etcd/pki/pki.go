// Package pki makes the certificates with which the nodes of a cluster reach
// an embedded etcd: an authority, one for the server and one for clients.
package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	year         = 365 * 24 * time.Hour
	caLifetime   = 10 * year
	leafLifetime = 2 * year
	// backdate lets a host whose clock is a little behind use a certificate
	// at once.
	backdate = time.Hour
)

// Files are the files of one cluster, PEM. CA.Cert and Client go to every
// node, Server to the one that runs etcd; CA.Key goes nowhere.
type Files struct {
	CA, Server, Client Pair
	NewCA              bool // the authority was made by this call
}

// Pair names a certificate and its key, and tells when it expires.
type Pair struct {
	Cert, Key string
	NotAfter  time.Time
}

// Init makes in dir the authority, unless it exists, and certificates for a
// server known as hosts (DNS names or IP addresses, and always localhost) and
// for its clients. Those two are replaced where they exist, which is how they
// are renewed.
func Init(dir string, hosts []string) (Files, error) {
	var f Files
	for name, p := range map[string]*Pair{"ca": &f.CA, "server": &f.Server, "client": &f.Client} {
		p.Cert, p.Key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	}
	names, ips, err := parseHosts(hosts)
	if err != nil {
		return Files{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("make certificate directory: %w", err)
	}

	now := time.Now()
	ca, err := loadCA(f.CA, now)
	if errors.Is(err, os.ErrNotExist) {
		ca, err = makeCA(f.CA, now)
		f.NewCA = true
	}
	if err != nil {
		return Files{}, err
	}
	f.CA.NotAfter = ca.cert.NotAfter

	// The server's is a client's too: the daemon beside the member uses it.
	f.Server.NotAfter, err = ca.issue(f.Server, now, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "weft etcd server"},
		DNSNames:    names,
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Files{}, err
	}
	f.Client.NotAfter, err = ca.issue(f.Client, now, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "weft"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Files{}, err
	}
	return f, nil
}

// parseHosts splits hosts into names and addresses, with those of this host.
func parseHosts(hosts []string) (names []string, ips []net.IP, err error) {
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	names = []string{"localhost"}
	for _, h := range hosts {
		h = strings.TrimSpace(h)
		if a, err := netip.ParseAddr(h); err == nil && a.Zone() == "" {
			addrs = append(addrs, a.Unmap())
			continue
		}
		if !isDNSName(h) {
			return nil, nil, fmt.Errorf("%q is neither an IP address nor a DNS name; want for example 10.0.0.1 or etcd.example.net", h)
		}
		names = append(names, h)
	}
	slices.Sort(names)
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range slices.Compact(addrs) {
		ips = append(ips, a.AsSlice())
	}
	return slices.Compact(names), ips, nil
}

// isDNSName accepts host names (RFC 1123 section 2.1), with underscores.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	// All digits and dots is a mistyped address.
	return strings.Trim(s, "0123456789.") != ""
}
