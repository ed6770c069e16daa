package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/weftnet/weft/subnet/etcd/endpoint"
)

const defaultClientURL = "http://127.0.0.1:2379"

// defaultPeerURL is on a free port: with one member nobody needs to know it.
// It is not without TLS where clients need certificates, for who speaks to a
// member as a peer can do what a client can.
func (c Config) defaultPeerURL() string {
	if c.CAFile != "" {
		return "https://127.0.0.1:0"
	}
	return "http://127.0.0.1:0"
}

// parseListen checks the URLs to listen on against how clients must prove who
// they are. An etcd that strangers reach lets them write leases, and with
// leases they draw traffic.
func (c Config) parseListen(list []string, fallback string) ([]url.URL, error) {
	if len(list) == 0 {
		list = []string{fallback}
	}
	var urls []url.URL
	for _, s := range list {
		u, err := endpoint.ParseListen(s)
		if err != nil {
			return nil, fmt.Errorf("listen address of the embedded etcd: %w", err)
		}
		if err := c.checkListen(u); err != nil {
			return nil, fmt.Errorf("listen address %s of the embedded etcd: %w", s, err)
		}
		urls = append(urls, *u)
	}
	return urls, nil
}

func (c Config) checkListen(u *url.URL) error {
	switch {
	case u.Scheme == "https" && c.CertFile == "":
		return errors.New("https needs a certificate and its key (`weftd etcd init` makes them)")
	case endpoint.Loopback(u) || c.Insecure:
	case u.Scheme == "https" && c.CAFile != "":
	case u.Scheme == "https":
		return errors.New("anybody could write leases, since without a CA file clients need no certificate: " +
			"give the CA file too, or listen on 127.0.0.1, or accept that with --etcd-embedded-insecure")
	default:
		return errors.New("anybody who reaches it could write leases: " +
			"listen on 127.0.0.1, or write https and give certificate, key and CA files (`weftd etcd init` makes them), " +
			"or accept that with --etcd-embedded-insecure")
	}
	return nil
}

// reachable returns the URL by which this host reaches the listener of u.
func reachable(u url.URL, listeners []net.Listener) string {
	host, port := u.Hostname(), u.Port()
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
		if a.Is6() {
			host = "::1"
		}
	}
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && port == "0" {
			port = strconv.Itoa(a.Port)
		}
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}
