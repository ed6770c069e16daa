package endpoint

import (
	"net/url"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in           string
		want, listen string // "" where it is refused
	}{
		{"http://10.0.0.1:2379", "http://10.0.0.1:2379", "http://10.0.0.1:2379"},
		{"https://[fd00::1]:4001/", "https://[fd00::1]:4001", "https://[fd00::1]:4001"},
		{"http://localhost:1", "http://localhost:1", "http://localhost:1"},
		{"http://127.0.0.1:0", "", "http://127.0.0.1:0"},
		{"10.0.0.1:4001", "//10.0.0.1:4001", ""},
		{"etcd.example.net:1", "//etcd.example.net:1", ""},
		{"https://etcd.example.net:1", "https://etcd.example.net:1", ""},
	} {
		for _, how := range []struct {
			parse func(string) (*url.URL, error)
			want  string
		}{{Parse, tt.want}, {ParseListen, tt.listen}} {
			u, err := how.parse(tt.in)
			if (err == nil) != (how.want != "") || err == nil && u.String() != how.want {
				t.Errorf("%q: %v, %v; want %q", tt.in, u, err, how.want)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	const (
		notURL  = " must be a URL with http or https, for instance http://127.0.0.1:2379"
		noPort  = " must have a port from 1 to 65535, usually 2379"
		noHost  = " must name a host and a port, for instance http://192.0.2.1:2379"
		trailer = " must end after the port; for the place of the keys there is --etcd-prefix"
	)
	for in, want := range map[string]string{
		"":                       `""` + noHost,
		"http://10.0.0.1":        `"http://10.0.0.1"` + noHost,
		"http://:2379":           `"http://:2379"` + noHost,
		"http://a:b:c":           `"http://a:b:c"` + notURL,
		"http://a:0":             `"http://a:0"` + noPort,
		"http://a:70000":         `"http://a:70000"` + noPort,
		"ftp://10.0.0.1:1":       `"ftp://10.0.0.1:1"` + notURL,
		"://":                    `"://"` + notURL,
		"http://10.0.0.1:1/v2":   `"http://10.0.0.1:1/v2"` + trailer,
		"http://10.0.0.1:1/?a=b": `"http://10.0.0.1:1/?a=b"` + trailer,
		"http://u:p@10.0.0.1:1":  "must not contain a user; for that there are --etcd-username and --etcd-password",
	} {
		if _, err := Parse(in); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", in, err, want)
		}
	}
	for in, want := range map[string]string{
		"10.0.0.1:1":         `"10.0.0.1:1"` + notURL,
		"unix:///run/etcd":   `"unix:///run/etcd"` + notURL,
		"http://etcd.test:1": `"http://etcd.test:1" must have an IP address of this host, localhost, or 0.0.0.0 for all`,
	} {
		if _, err := ParseListen(in); err == nil || err.Error() != want {
			t.Errorf("to listen on %q: error %v, want %s", in, err, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for in, want := range map[string]bool{
		"http://127.8.9.1:1": true, "http://[::1]:1": true, "http://localhost:1": true,
		"http://0.0.0.0:1": false, "http://[::]:1": false, "http://10.0.0.1:1": false,
	} {
		u, err := ParseListen(in)
		if err != nil || Loopback(u) != want {
			t.Errorf("%s: %v, %v", in, !want, err)
		}
	}
}

// FuzzParse: what is accepted is accepted again, unchanged.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"http://10.0.0.1:2379", "10.0.0.1:1", "[fd00::1]:1", "https://u@h:1", "http://[fe80::1%25eth0]:2379", "[::%25\xc1]:1", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(strings.TrimPrefix(u.String(), "//"))
		if err != nil || *again != *u {
			t.Errorf("%q becomes %q, and that %q, error %v", s, u, again, err)
		}
		if listen, err := ParseListen(s); err == nil && *listen != *u {
			t.Errorf("%q becomes %q, and to listen on %q", s, u, listen)
		}
	})
}
