package etcd

import (
	"errors"
	"fmt"

	"github.com/weftnet/weft/subnet/etcd/endpoint"
)

// parseEndpoints checks the endpoints and writes them as URLs. One connection
// pool serves them all, so either every one is https or none.
func parseEndpoints(list []string, haveTLS bool) (urls []string, secure bool, err error) {
	for _, text := range list {
		u, err := endpoint.Parse(text)
		if err != nil {
			return nil, false, fmt.Errorf("etcd endpoint: %w", err)
		}
		switch {
		case u.Scheme == "" && haveTLS:
			u.Scheme = "https"
		case u.Scheme == "":
			u.Scheme = "http"
		case u.Scheme == "http" && haveTLS:
			return nil, false, fmt.Errorf("etcd endpoint %s: TLS files are given, but http uses none: write https, or take the files away", u)
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
