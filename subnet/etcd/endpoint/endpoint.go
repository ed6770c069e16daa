// Package endpoint reads the URLs by which an etcd is reached, and those that
// one listens on.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Parse takes http://host:port or https://host:port and nothing more; or
// host:port, as flannel does, and then the URL has no scheme. Its errors quote
// the text, unless there is a user in it, who may have a password.
func Parse(text string) (*url.URL, error) {
	u, err := parse(text)
	if err == nil && u.Port() == "0" {
		return nil, portError(text)
	}
	return u, err
}

// ParseListen takes what a socket can be bound to: a URL with an IP address, or
// localhost, and a port, of which 0 stands for any free one.
func ParseListen(text string) (*url.URL, error) {
	u, err := parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "" {
		return nil, schemeError(text)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Hostname() != "localhost" {
		return nil, fmt.Errorf("%q must have an IP address of this host, localhost, or 0.0.0.0 for all", text)
	}
	return u, nil
}

// Loopback tells whether only this host reaches what listens on u.
func Loopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

func parse(text string) (*url.URL, error) {
	if strings.Contains(text, "@") {
		return nil, errors.New("must not contain a user; for that there are --etcd-username and --etcd-password")
	}
	// Go's URLs accept any byte in an IPv6 zone.
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, schemeError(text)
	}
	full := text
	if !strings.Contains(text, "://") {
		full = "//" + text
	}
	u, err := url.Parse(full)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "") {
		return nil, schemeError(text)
	}
	if u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%q must end after the port; for the place of the keys there is --etcd-prefix", text)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || host == "" {
		return nil, fmt.Errorf("%q must name a host and a port, for instance http://192.0.2.1:2379", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, portError(text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func schemeError(text string) error {
	return fmt.Errorf("%q must be a URL with http or https, for instance http://127.0.0.1:2379", text)
}

func portError(text string) error {
	return fmt.Errorf("%q must have a port from 1 to 65535, usually 2379", text)
}
