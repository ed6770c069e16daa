package options

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/weftnet/weft/subnet/etcd/endpoint"
)

// Etcd says how to reach etcd, and where in it the network lives.
type Etcd struct {
	// Endpoints are URLs with a port, all http or all https. There is none where
	// etcd runs inside the daemon and no other is asked for.
	Endpoints []string
	Prefix    string // begins with "/", does not end with one

	// CertFile and KeyFile authenticate this node: both or neither. CAFile
	// holds the certificates that etcd's own is checked against; where it is
	// empty, the system's are used.
	CertFile, KeyFile, CAFile string

	Username string // both or neither
	Password Secret
}

const (
	flagEtcdEndpoints = "etcd-endpoints"
	flagEtcdPrefix    = "etcd-prefix"
	flagEtcdCertFile  = "etcd-certfile"
	flagEtcdKeyFile   = "etcd-keyfile"
	flagEtcdCAFile    = "etcd-cafile"
	flagEtcdUsername  = "etcd-username"
	flagEtcdPassword  = "etcd-password"
)

// AddFlags adds the flags that say how to reach etcd. After Parse, call Check.
func (e *Etcd) AddFlags(s *Set) {
	s.group = groupEtcd
	add(s, &e.Endpoints, info{name: flagEtcdEndpoints, arg: "URL[,URL...]", flannel: true,
		def:   "http://127.0.0.1:4001,http://127.0.0.1:2379",
		usage: "where etcd listens; with --etcd-embedded that member is the default"}, parseEndpoints)
	add(s, &e.Prefix, info{name: flagEtcdPrefix, arg: "PATH", def: "/coreos.com/network", flannel: true,
		usage: "the keys of this network are below it"}, parsePrefix)
	add(s, &e.CertFile, info{name: flagEtcdCertFile, arg: "FILE", flannel: true,
		usage: "certificate (PEM) that this node shows to etcd"}, parseText)
	add(s, &e.KeyFile, info{name: flagEtcdKeyFile, arg: "FILE", flannel: true,
		usage: "private key (PEM) of --etcd-certfile"}, parseText)
	add(s, &e.CAFile, info{name: flagEtcdCAFile, arg: "FILE", flannel: true,
		usage: "certificate authority (PEM) of etcd's own certificate; without it the system's are used"}, parseText)
	add(s, &e.Username, info{name: flagEtcdUsername, arg: "NAME", flannel: true,
		usage: "etcd user"}, parseText)
	add(s, &e.Password, info{name: flagEtcdPassword, arg: "TEXT", flannel: true,
		usage: "password of --etcd-username; better given by the environment, since ps shows command lines"}, parseSecret)
}

// Check completes the endpoints and finds combinations of flags that cannot
// be meant.
func (e *Etcd) Check(s *Set) error {
	if err := both(s, flagEtcdCertFile, e.CertFile, flagEtcdKeyFile, e.KeyFile); err != nil {
		return err
	}
	if err := both(s, flagEtcdUsername, e.Username, flagEtcdPassword, string(e.Password)); err != nil {
		return err
	}
	tlsFlag := ""
	switch {
	case e.CertFile != "":
		tlsFlag = flagEtcdCertFile
	case e.CAFile != "":
		tlsFlag = flagEtcdCAFile
	}
	for i, text := range e.Endpoints {
		switch {
		case strings.Contains(text, "://"):
		case tlsFlag != "":
			e.Endpoints[i] = "https://" + text
		default:
			e.Endpoints[i] = "http://" + text
		}
	}
	return e.checkSchemes(s, tlsFlag)
}

// checkSchemes wants https with TLS files, and no mixture: with one, it would
// depend on which endpoint answers first whether anything is encrypted.
func (e *Etcd) checkSchemes(s *Set, tlsFlag string) error {
	for _, text := range e.Endpoints {
		switch https := strings.HasPrefix(text, "https:"); {
		case tlsFlag != "" && !https:
			return fmt.Errorf("%s is given, but the connection to etcd at %s would not be encrypted: write https in --%s",
				s.origin(tlsFlag), text, flagEtcdEndpoints)
		case https != strings.HasPrefix(e.Endpoints[0], "https:"):
			return fmt.Errorf("%s has both http and https, %s and %s: write the same for all",
				s.origin(flagEtcdEndpoints), e.Endpoints[0], text)
		}
	}
	return nil
}

// both wants two flags given together. Their texts stay out of the message,
// since one may be a password.
func both(s *Set, nameA, a, nameB, b string) error {
	if a != "" && b == "" {
		return fmt.Errorf("%s is given without --%s: give both or neither", s.origin(nameA), nameB)
	}
	if b != "" && a == "" {
		return fmt.Errorf("%s is given without --%s: give both or neither", s.origin(nameB), nameA)
	}
	return nil
}

// parsePrefix cleans the prefix as flannel does when it joins paths, so that
// both find the same keys.
func parsePrefix(text string) (string, error) {
	prefix := path.Clean(text)
	if !strings.HasPrefix(prefix, "/") || prefix == "/" {
		return "", errors.New(`must be a path that begins with "/" and names a folder, for instance /coreos.com/network`)
	}
	return prefix, nil
}

func parseEndpoints(text string) ([]string, error) {
	names, _ := parseNames(text)
	if len(names) == 0 {
		return nil, errors.New("must be at least one URL, for instance http://127.0.0.1:2379")
	}
	endpoints := make([]string, len(names))
	for i, name := range names {
		u, err := endpoint.Parse(name)
		if err != nil {
			return nil, err
		}
		endpoints[i] = strings.TrimPrefix(u.String(), "//")
	}
	return endpoints, nil
}
