package options

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEmbedded(t *testing.T) {
	tls := []string{"--etcd-embedded-cert-file=c", "--etcd-embedded-key-file=k", "--etcd-embedded-ca-file=ca"}
	member := Etcd{Prefix: "/coreos.com/network"} // which tells where it is
	encrypted := Etcd{Prefix: "/coreos.com/network", CertFile: "c", KeyFile: "k", CAFile: "ca"}
	tests := []struct {
		name string
		args []string
		want Embedded
		etcd Etcd
	}{
		{name: "defaults",
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"http://127.0.0.1:2379"}}, etcd: member},
		{name: "below another state directory",
			args: []string{"--state-dir=/x"},
			want: Embedded{DataDir: "/x/etcd", Listen: []string{"http://127.0.0.1:2379"}}, etcd: member},
		{name: "a directory of its own",
			args: []string{"--state-dir=/x", "--etcd-embedded-data-dir=/y"},
			want: Embedded{DataDir: "/y", Listen: []string{"http://127.0.0.1:2379"}}, etcd: member},
		{name: "TLS turns the default to https, and is our own client's too",
			args: tls,
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"https://127.0.0.1:2379"}, CertFile: "c", KeyFile: "k", CAFile: "ca"},
			etcd: encrypted},
		{name: "on all addresses",
			args: append([]string{"--etcd-embedded-listen=https://0.0.0.0:2379"}, tls...),
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"https://0.0.0.0:2379"}, CertFile: "c", KeyFile: "k", CAFile: "ca"},
			etcd: encrypted},
		{name: "IPv6, open on request",
			args: []string{"--etcd-embedded-listen=http://[::]:4001", "--etcd-embedded-insecure"},
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"http://[::]:4001"}, Insecure: true},
			etcd: member},
		{name: "localhost is loopback",
			args: []string{"--etcd-embedded-listen=http://localhost:4001"},
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"http://localhost:4001"}},
			etcd: member},
		{name: "several",
			args: []string{"--etcd-embedded-listen=http://127.0.0.1:4001,http://[::1]:4001"},
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"http://127.0.0.1:4001", "http://[::1]:4001"}},
			etcd: member},
		{name: "endpoints and client certificate of one's own",
			args: append([]string{"--etcd-endpoints=https://a:1", "--etcd-certfile=cc", "--etcd-keyfile=ck"}, tls...),
			want: Embedded{DataDir: "/var/lib/weft/etcd", Listen: []string{"https://127.0.0.1:2379"}, CertFile: "c", KeyFile: "k", CAFile: "ca"},
			etcd: Etcd{Endpoints: []string{"https://a:1"}, Prefix: "/coreos.com/network", CertFile: "cc", KeyFile: "ck"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := Parse(append([]string{"--etcd-embedded"}, tt.args...), nil)
			if err != nil {
				t.Fatal(err)
			}
			if o.Embedded == nil {
				t.Fatal("Embedded is nil")
			}
			if d := cmp.Diff(tt.want, *o.Embedded); d != "" {
				t.Errorf("Embedded (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.etcd, o.Etcd); d != "" {
				t.Errorf("Etcd (-want +got):\n%s", d)
			}
		})
	}
}

func TestEmbeddedErrors(t *testing.T) {
	const allThree = "--etcd-embedded-cert-file, --etcd-embedded-key-file and --etcd-embedded-ca-file"
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--etcd-embedded-cert-file=c"}, allThree + " belong together: give all three, or none (`weftd etcd init` makes them)"},
		{[]string{"--etcd-embedded-ca-file=c"}, allThree + " belong together: give all three, or none (`weftd etcd init` makes them)"},
		{[]string{"--etcd-embedded-cert-file=c", "--etcd-embedded-key-file=k"}, allThree + " belong together: give all three, or none (`weftd etcd init` makes them)"},
		{[]string{"--etcd-embedded-listen=http://127.0.0.1:1", "--etcd-embedded-cert-file=c", "--etcd-embedded-key-file=k", "--etcd-embedded-ca-file=a"},
			"--etcd-embedded-listen is http://127.0.0.1:1 although TLS files are given: write https"},
		{[]string{"--etcd-embedded-listen=http://127.0.0.1:1,http://192.0.2.1:1"},
			"--etcd-embedded-listen is http://192.0.2.1:1: beyond loopback and without TLS anyone could write leases; give " + allThree + " (`weftd etcd init` makes them), or accept that with --etcd-embedded-insecure"},
		{[]string{"--etcd-embedded-listen=https://127.0.0.1:1"},
			"--etcd-embedded-listen is https://127.0.0.1:1 but there is no certificate: give " + allThree + " (`weftd etcd init` makes them)"},
		{[]string{"--etcd-embedded-listen=http://0.0.0.0:2379"},
			"--etcd-embedded-listen is http://0.0.0.0:2379: beyond loopback and without TLS anyone could write leases; give " + allThree + " (`weftd etcd init` makes them), or accept that with --etcd-embedded-insecure"},
		{[]string{"--etcd-embedded-listen=http://etcd.example:2379"},
			`invalid value "http://etcd.example:2379" for --etcd-embedded-listen: "http://etcd.example:2379" must have an IP address of this host, localhost, or 0.0.0.0 for all`},
		{[]string{"--etcd-embedded-listen=127.0.0.1:2379"},
			`invalid value "127.0.0.1:2379" for --etcd-embedded-listen: "127.0.0.1:2379" must be a URL with http or https, for instance http://127.0.0.1:2379`},
		{[]string{"--etcd-embedded-data-dir="}, `invalid value "" for --etcd-embedded-data-dir: must be the name of a file, or left out for the default`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := Parse(append([]string{"--etcd-embedded"}, tt.args...), nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error\n  %v\nwant\n  %s", err, tt.want)
			}
		})
	}
}
