package embedded

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseListen(t *testing.T) {
	tls := Config{CertFile: "c", KeyFile: "k"}
	mutual := Config{CertFile: "c", KeyFile: "k", CAFile: "ca"}
	for _, tt := range []struct {
		cfg  Config
		url  string
		want string // part of the error, "" for none
	}{
		{Config{}, "http://127.0.0.1:2379", ""},
		{Config{}, "http://127.8.9.1:2379", ""},
		{Config{}, "http://localhost:2379", ""},
		{Config{}, "http://[::1]:2379", ""},
		{mutual, "https://10.0.0.1:2379", ""},
		{mutual, "https://0.0.0.0:2379", ""},
		{mutual, "https://[::]:2379", ""},
		{tls, "https://127.0.0.1:2379", ""},
		{Config{Insecure: true}, "http://0.0.0.0:2379", ""},
		{Config{CertFile: "c", KeyFile: "k", Insecure: true}, "https://10.0.0.1:2379", ""},

		{Config{}, "http://10.0.0.1:2379", "listen on 127.0.0.1, or write https and give certificate, key and CA files (`weftd etcd init` makes them), or accept that with --etcd-embedded-insecure"},
		{Config{}, "http://0.0.0.0:2379", "--etcd-embedded-insecure"},
		{Config{}, "http://[::]:2379", "--etcd-embedded-insecure"},
		{mutual, "http://10.0.0.1:2379", "--etcd-embedded-insecure"},
		{tls, "https://10.0.0.1:2379", "without a CA file"},
		{Config{}, "https://127.0.0.1:2379", "needs a certificate"},
		{Config{}, "http://etcd.example.net:2379", "must have an IP address"},
		{Config{}, "10.0.0.1:2379", "must be a URL"},
		{Config{}, "http://10.0.0.1", "must name a host and a port"},
		{Config{}, "", "must name a host and a port"},
	} {
		urls, err := tt.cfg.parseListen([]string{tt.url}, "")
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.url, err)
		case tt.want == "" && (len(urls) != 1 || urls[0].String() != tt.url):
			t.Errorf("%q: parsed as %v", tt.url, urls)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: error %v, want one with %q", tt.url, err, tt.want)
		}
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"http://0.0.0.0:2379":    "http://127.0.0.1:2379",
		"https://[::]:2379":      "https://[::1]:2379",
		"https://10.0.0.1:4001":  "https://10.0.0.1:4001",
		"http://localhost:2379":  "http://localhost:2379",
		"https://[fd00::1]:2379": "https://[fd00::1]:2379",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(*u, nil); got != want {
			t.Errorf("%s is reached at %s, want %s", in, got, want)
		}
	}
}
