package options

import (
	"strings"
	"testing"
)

// Every error names the flag or variable as the user wrote it, the value, and
// what is allowed.
func TestParseErrors(t *testing.T) {
	tests := []struct {
		args []string
		env  []string
		want string
	}{
		{args: []string{"--ifaec=eth0"}, want: `flag provided but not defined: -ifaec`},
		{args: []string{"--iface"}, want: `flag needs an argument: -iface`},
		{args: []string{"run"}, want: `unexpected argument "run": flags with a value are written --name=value, switches --name or --name=false`},
		{args: []string{"--ip-masq", "false"}, want: `unexpected argument "false": flags with a value are written --name=value, switches --name or --name=false`},
		{args: []string{"--", "--ip-masq"}, want: `unexpected argument "--ip-masq": flags with a value are written --name=value, switches --name or --name=false`},
		{args: []string{"--ip-masq=yes"}, want: `invalid value "yes" for --ip-masq: must be true or false`},
		{env: []string{"FLANNELD_IP_MASQ=yes"}, want: `invalid value "yes" for FLANNELD_IP_MASQ: must be true or false`},
		{env: []string{"FLANNELD_IP_MASQ=true", "WEFTD_IP_MASQ=on"}, want: `invalid value "on" for WEFTD_IP_MASQ: must be true or false`},

		{args: []string{"--etcd-endpoints=etcd"}, want: `invalid value "etcd" for --etcd-endpoints: "etcd" must name a host and a port, for instance http://192.0.2.1:2379`},
		{args: []string{"--etcd-endpoints=http//a:1"}, want: `invalid value "http//a:1" for --etcd-endpoints: "http//a:1" must end after the port; for the place of the keys there is --etcd-prefix`},
		{args: []string{"--etcd-endpoints=http://%zz:1"}, want: `invalid value "http://%zz:1" for --etcd-endpoints: "http://%zz:1" must be a URL with http or https, for instance http://127.0.0.1:2379`},
		{args: []string{"--etcd-endpoints=http://a:1,https://b:1"}, want: `--etcd-endpoints has both http and https, http://a:1 and https://b:1: write the same for all`},
		{args: []string{"--etcd-endpoints=https://a:1,http://b:1", "--etcd-cafile=ca"}, want: `--etcd-cafile is given, but the connection to etcd at http://b:1 would not be encrypted: write https in --etcd-endpoints`},
		{env: []string{"FLANNELD_ETCD_CERTFILE=c", "FLANNELD_ETCD_KEYFILE=k"}, want: `FLANNELD_ETCD_CERTFILE is given, but the connection to etcd at http://127.0.0.1:4001 would not be encrypted: write https in --etcd-endpoints`},
		{args: []string{"--etcd-endpoints="}, want: `invalid value "" for --etcd-endpoints: must be at least one URL, for instance http://127.0.0.1:2379`},
		{args: []string{"--etcd-endpoints=ftp://a:1"}, want: `invalid value "ftp://a:1" for --etcd-endpoints: "ftp://a:1" must be a URL with http or https, for instance http://127.0.0.1:2379`},
		{args: []string{"--etcd-endpoints=http://10.0.0.2"}, want: `invalid value "http://10.0.0.2" for --etcd-endpoints: "http://10.0.0.2" must name a host and a port, for instance http://192.0.2.1:2379`},
		{args: []string{"--etcd-endpoints=http://:2379"}, want: `invalid value "http://:2379" for --etcd-endpoints: "http://:2379" must name a host and a port, for instance http://192.0.2.1:2379`},
		{args: []string{"--etcd-endpoints=http://a:70000"}, want: `invalid value "http://a:70000" for --etcd-endpoints: "http://a:70000" must have a port from 1 to 65535, usually 2379`},
		{args: []string{"--etcd-endpoints=http://a:1,http://b:2/v3"}, want: `invalid value "http://a:1,http://b:2/v3" for --etcd-endpoints: "http://b:2/v3" must end after the port; for the place of the keys there is --etcd-prefix`},
		{args: []string{"--etcd-endpoints=http://u:secret@a:1"}, want: `invalid value (hidden) for --etcd-endpoints: must not contain a user; for that there are --etcd-username and --etcd-password`},
		{args: []string{"--etcd-prefix=coreos.com"}, want: `invalid value "coreos.com" for --etcd-prefix: must be a path that begins with "/" and names a folder, for instance /coreos.com/network`},
		{env: []string{"WEFTD_ETCD_PREFIX=/"}, want: `invalid value "/" for WEFTD_ETCD_PREFIX: must be a path that begins with "/" and names a folder, for instance /coreos.com/network`},
		{args: []string{"--etcd-certfile=c"}, want: `--etcd-certfile is given without --etcd-keyfile: give both or neither`},
		{env: []string{"FLANNELD_ETCD_KEYFILE=k"}, want: `FLANNELD_ETCD_KEYFILE is given without --etcd-certfile: give both or neither`},
		{args: []string{"--etcd-username=u"}, want: `--etcd-username is given without --etcd-password: give both or neither`},
		{env: []string{"WEFTD_ETCD_PASSWORD=secret"}, want: `WEFTD_ETCD_PASSWORD is given without --etcd-username: give both or neither`},

		{args: []string{"--iface-regex=("}, want: "invalid value \"(\" for --iface-regex: must be a regular expression (Go syntax): error parsing regexp: missing closing ): `(`"},
		{args: []string{"--iface-can-reach=example.org"}, want: `invalid value "example.org" for --iface-can-reach: must be an IP address, for instance 192.0.2.1 or 2001:db8::1`},
		{args: []string{"--iface-can-reach=fe80::1%eth0"}, want: `invalid value "fe80::1%eth0" for --iface-can-reach: must be an IP address, for instance 192.0.2.1 or 2001:db8::1`},
		{args: []string{"--public-ip=2001:db8::1"}, want: `invalid value "2001:db8::1" for --public-ip: must be an IPv4 address; for IPv6 there is --public-ipv6`},
		{args: []string{"--public-ip=0.0.0.0"}, want: `invalid value "0.0.0.0" for --public-ip: must be the address of one host`},
		{args: []string{"--public-ipv6=192.0.2.1"}, want: `invalid value "192.0.2.1" for --public-ipv6: must be an IPv6 address; for IPv4 there is --public-ip`},
		{args: []string{"--public-ipv6=ff02::1"}, want: `invalid value "ff02::1" for --public-ipv6: must be the address of one host`},
		{args: []string{"--healthz-ip="}, want: `invalid value "" for --healthz-ip: must be an IP address; 0.0.0.0 listens on all of IPv4, :: on all`},
		{args: []string{"--healthz-port=65536"}, want: `invalid value "65536" for --healthz-port: must be a whole number from 0 to 65535`},
		{args: []string{"--subnet-lease-renew-margin=0"}, want: `invalid value "0" for --subnet-lease-renew-margin: must be a whole number of minutes from 1 to 1439`},
		{args: []string{"--subnet-lease-renew-margin=1440"}, want: `invalid value "1440" for --subnet-lease-renew-margin: must be a whole number of minutes from 1 to 1439`},
		{args: []string{"--iptables-resync=5s"}, want: `invalid value "5s" for --iptables-resync: must be a whole number of seconds from 1 to 86400`},
		{args: []string{"-v=-1"}, want: `invalid value "-1" for --v: must be a whole number from 0 to 2147483647`},
		{args: []string{"--subnet-file="}, want: `invalid value "" for --subnet-file: must be the name of a file, or left out for the default`},
		{args: []string{"--firewall=off", "--ip-masq"}, want: "--ip-masq needs firewall rules: give it or --firewall=off, not both"},
		{args: []string{"--firewall=ufw"}, want: `invalid value "ufw" for --firewall: must be one of auto, iptables, iptables-nft, iptables-legacy, nftables, off`},
		{args: []string{"--log-level=INFO"}, want: `invalid value "INFO" for --log-level: must be one of debug, info, warn, error`},
		{args: []string{"--log-format=xml"}, want: `invalid value "xml" for --log-format: must be one of text, json`},

		{args: []string{"--kube-subnet-mgr"}, want: `--kube-subnet-mgr: weft has no Kubernetes mode; it keeps leases in etcd, see --etcd-endpoints`},
		{env: []string{"FLANNELD_KUBE_SUBNET_MGR=true"}, want: `FLANNELD_KUBE_SUBNET_MGR: weft has no Kubernetes mode; it keeps leases in etcd, see --etcd-endpoints`},
		{args: []string{"--etcd-embedded-insecure"}, want: `--etcd-embedded-insecure has no meaning without --etcd-embedded`},
		{env: []string{"WEFTD_ETCD_EMBEDDED_LISTEN=http://127.0.0.1:1"}, want: `WEFTD_ETCD_EMBEDDED_LISTEN has no meaning without --etcd-embedded`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(append(tt.args, tt.env...), " "), func(t *testing.T) {
			_, err := Parse(tt.args, tt.env)
			if err == nil {
				t.Fatalf("no error, want %s", tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("error\n  %s\nwant\n  %s", err, tt.want)
			}
		})
	}
}
