package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// parseEndpoints checks the endpoints and writes them as URLs. One connection
// pool serves them all, so either every one is https or none.
func parseEndpoints(list []string, haveTLS bool) (urls []string, secure bool, err error) {
	for _, e := range list {
		e = strings.TrimSpace(e)
		if e == "" {
			continue
		}
		u, err := parseEndpoint(e, haveTLS)
		if err != nil {
			return nil, false, fmt.Errorf("etcd endpoint %q: %w", e, err)
		}
		https := u.Scheme == "https"
		if len(urls) > 0 && https != secure {
			return nil, false, fmt.Errorf("etcd endpoints %s and %s: use http for all or https for all", urls[0], u)
		}
		secure = https
		urls = append(urls, u.String())
	}
	if len(urls) == 0 {
		return nil, false, errors.New("no etcd endpoint given: set --etcd-endpoints, for example http://10.0.0.1:2379")
	}
	return urls, secure, nil
}

func parseEndpoint(e string, haveTLS bool) (*url.URL, error) {
	if !strings.Contains(e, "://") {
		scheme := "http://"
		if haveTLS {
			scheme = "https://"
		}
		e = scheme + e
	}
	u, err := url.Parse(e)
	if err != nil {
		return nil, errors.New("not a URL such as https://10.0.0.1:2379")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q; want http or https", u.Scheme)
	case u.User != nil:
		return nil, errors.New("no user or password may stand here: use --etcd-username and --etcd-password")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("nothing may follow host and port")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	case u.Scheme == "http" && haveTLS:
		return nil, errors.New("TLS files are given, but http uses none: write https, or take the files away")
	}
	port := u.Port()
	if port == "" {
		port = "2379"
	}
	return &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(u.Hostname(), port)}, nil
}
