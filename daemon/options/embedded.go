package options

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/weftnet/weft/subnet/etcd/endpoint"
)

// Embedded says how to run an etcd member inside the daemon.
type Embedded struct {
	DataDir string

	// Listen are the URLs that clients connect to, http or https, each with
	// the IP address (or localhost) and the port to bind to.
	Listen []string

	// CertFile, KeyFile and CAFile are all given or all empty. The member
	// shows CertFile and accepts clients whose certificate CAFile vouches for.
	CertFile, KeyFile, CAFile string

	// Insecure permits a Listen beyond loopback without TLS.
	Insecure bool
}

const (
	flagEmbedded         = "etcd-embedded"
	flagEmbeddedDataDir  = "etcd-embedded-data-dir"
	flagEmbeddedListen   = "etcd-embedded-listen"
	flagEmbeddedCertFile = "etcd-embedded-cert-file"
	flagEmbeddedKeyFile  = "etcd-embedded-key-file"
	flagEmbeddedCAFile   = "etcd-embedded-ca-file"
	flagEmbeddedInsecure = "etcd-embedded-insecure"
)

func (e *Embedded) addFlags(s *Set, enabled *bool) {
	s.group = groupEmbedded
	add(s, enabled, info{name: flagEmbedded, def: "false",
		usage: "run an etcd member inside the daemon"}, parseBool)
	AddEmbeddedDataDir(s, &e.DataDir)
	add(s, &e.Listen, info{name: flagEmbeddedListen, arg: "URL[,URL...]",
		usage: "where that member listens for clients; default: http://127.0.0.1:2379, or https with TLS files"}, parseListenURLs)
	add(s, &e.CertFile, info{name: flagEmbeddedCertFile, arg: "FILE",
		usage: "certificate (PEM) that the member shows to clients; `weftd etcd init` makes one"}, parsePath)
	add(s, &e.KeyFile, info{name: flagEmbeddedKeyFile, arg: "FILE",
		usage: "private key (PEM) of that certificate"}, parsePath)
	add(s, &e.CAFile, info{name: flagEmbeddedCAFile, arg: "FILE",
		usage: "certificate authority (PEM) that a client's certificate must come from"}, parsePath)
	add(s, &e.Insecure, info{name: flagEmbeddedInsecure, def: "false",
		usage: "listen beyond loopback without TLS: anyone who reaches the port can then write leases"}, parseBool)
}

// AddEmbeddedDataDir adds --etcd-embedded-data-dir. Where it is not given, that
// is DefaultEmbeddedDataDir.
func AddEmbeddedDataDir(s *Set, p *string) {
	add(s, p, info{name: flagEmbeddedDataDir, arg: "DIR",
		usage: "where that member keeps its data; default: etcd in --state-dir"}, parsePath)
}

// DefaultEmbeddedDataDir is where an etcd member in the daemon keeps its data
// unless it is told otherwise.
func DefaultEmbeddedDataDir(stateDir string) string { return filepath.Join(stateDir, "etcd") }

// check completes the defaults and finds what cannot be meant.
func (e *Embedded) check(s *Set, stateDir string) error {
	tls := e.CertFile != ""
	if (e.KeyFile != "") != tls || (e.CAFile != "") != tls {
		return fmt.Errorf("--%s, --%s and --%s belong together: give all three, or none (`weftd etcd init` makes them)",
			flagEmbeddedCertFile, flagEmbeddedKeyFile, flagEmbeddedCAFile)
	}
	if e.DataDir == "" {
		e.DataDir = DefaultEmbeddedDataDir(stateDir)
	}
	if len(e.Listen) == 0 {
		e.Listen = []string{"http://127.0.0.1:2379"}
		if tls {
			e.Listen = []string{"https://127.0.0.1:2379"}
		}
	}
	for _, listen := range e.Listen {
		if err := e.checkListen(s, listen, tls); err != nil {
			return err
		}
	}
	return nil
}

func (e *Embedded) checkListen(s *Set, listen string, tls bool) error {
	u, err := endpoint.ParseListen(listen)
	if err != nil {
		return fmt.Errorf("%s: %w", s.origin(flagEmbeddedListen), err)
	}
	switch {
	case tls && u.Scheme == "http":
		return fmt.Errorf("%s is %s although TLS files are given: write https", s.origin(flagEmbeddedListen), listen)
	case !tls && u.Scheme == "https":
		return fmt.Errorf("%s is %s but there is no certificate: give --%s, --%s and --%s (`weftd etcd init` makes them)",
			s.origin(flagEmbeddedListen), listen, flagEmbeddedCertFile, flagEmbeddedKeyFile, flagEmbeddedCAFile)
	case !tls && !endpoint.Loopback(u) && !e.Insecure:
		return fmt.Errorf("%s is %s: beyond loopback and without TLS anyone could write leases; "+
			"give --%s, --%s and --%s (`weftd etcd init` makes them), or accept that with --%s",
			s.origin(flagEmbeddedListen), listen,
			flagEmbeddedCertFile, flagEmbeddedKeyFile, flagEmbeddedCAFile, flagEmbeddedInsecure)
	}
	return nil
}

// client points this daemon's own connection at the member, with the member's
// certificate where no other is given. Where the member is, it tells itself.
func (e *Embedded) client(etcd *Etcd) {
	etcd.Endpoints = nil
	if e.CertFile != "" && etcd.CertFile == "" && etcd.CAFile == "" {
		etcd.CertFile, etcd.KeyFile, etcd.CAFile = e.CertFile, e.KeyFile, e.CAFile
	}
}

func parseListenURLs(text string) ([]string, error) {
	urls, _ := parseNames(text)
	if len(urls) == 0 {
		return nil, errors.New("must be at least one URL, for instance http://127.0.0.1:2379")
	}
	for i, name := range urls {
		u, err := endpoint.ParseListen(name)
		if err != nil {
			return nil, err
		}
		urls[i] = u.String()
	}
	return urls, nil
}
