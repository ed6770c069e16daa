package options

import (
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// defaults are flannel's documented ones, and weft's.
func defaults() Options {
	return Options{
		Etcd: Etcd{
			Endpoints: []string{"http://127.0.0.1:4001", "http://127.0.0.1:2379"},
			Prefix:    "/coreos.com/network",
		},
		SubnetFile:       "/run/flannel/subnet.env",
		StateDir:         "/var/lib/weft",
		ControlSocket:    "/run/weft/weftd.sock",
		LeaseRenewMargin: 60 * time.Minute,
		MasqRandomFully:  true,
		ForwardRules:     true,
		FirewallInterval: 5 * time.Second,
		Firewall:         "auto",
		UDPEngine:        "gso",
		HealthzIP:        netip.MustParseAddr("0.0.0.0"),
		LogLevel:         slog.LevelInfo,
		LogFormat:        "text",
	}
}

func diff(want, got Options) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}),
		cmp.Transformer("secret", func(s Secret) string { return string(s) }),
		cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() }))
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  []string
		want func(*Options)
	}{
		{name: "nothing given", want: func(*Options) {}},
		{name: "etcd",
			args: []string{"-etcd-endpoints=https://a.example:2379, https://[2001:db8::1]:2379/", "-etcd-prefix", "/weft//x/",
				"--etcd-certfile=c", "--etcd-keyfile", "k", "-etcd-cafile", "ca", "-etcd-username=u", "-etcd-password=p,w=@"},
			want: func(o *Options) {
				o.Etcd = Etcd{Endpoints: []string{"https://a.example:2379", "https://[2001:db8::1]:2379"}, Prefix: "/weft/x",
					CertFile: "c", KeyFile: "k", CAFile: "ca", Username: "u", Password: "p,w=@"}
			}},
		{name: "interface",
			args: []string{"-iface=eth0", "--iface", "192.0.2.1,eth2", "-iface=", `-iface-regex=eth\d{1,2}`, "--iface-regex=^10\\.", "-iface-can-reach=192.0.2.9"},
			want: func(o *Options) {
				o.Iface = []string{"eth0", "192.0.2.1", "eth2"}
				o.IfaceRegex = []*regexp.Regexp{regexp.MustCompile(`eth\d{1,2}`), regexp.MustCompile(`^10\.`)}
				o.IfaceCanReach = netip.MustParseAddr("192.0.2.9")
			}},
		{name: "addresses",
			args: []string{"--public-ip=198.51.100.7", "--public-ipv6=2001:db8::7", "--healthz-ip=::1", "--healthz-port=8471"},
			want: func(o *Options) {
				o.PublicIP, o.PublicIPv6 = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")
				o.HealthzIP, o.HealthzPort = netip.MustParseAddr("::1"), 8471
			}},
		{name: "empty addresses mean the default",
			args: []string{"--public-ip=", "--public-ipv6=", "--iface-can-reach="}, want: func(*Options) {}},
		{name: "switches",
			args: []string{"-ip-masq", "--ip-masq-fully-random-disable", "-iptables-forward-rules=false", "--ip-blackhole-route"},
			want: func(o *Options) {
				o.IPMasq, o.MasqRandomFully, o.ForwardRules, o.BlackholeRoute = true, false, false, true
			}},
		{name: "numbers",
			args: []string{"--subnet-lease-renew-margin=1439", "-iptables-resync=30"},
			want: func(o *Options) { o.LeaseRenewMargin, o.FirewallInterval = 1439*time.Minute, 30*time.Second }},
		{name: "files",
			args: []string{"--subnet-file=/x/subnet.env", "--state-dir=/x/state", "--control-socket=/x/sock"},
			want: func(o *Options) { o.SubnetFile, o.StateDir, o.ControlSocket = "/x/subnet.env", "/x/state", "/x/sock" }},
		{name: "weft's own",
			args: []string{"--firewall=nftables", "--log-level=warn", "--log-format=json"},
			want: func(o *Options) { o.Firewall, o.LogLevel, o.LogFormat = FirewallNFTables, slog.LevelWarn, LogJSON }},
		{name: "engine",
			args: []string{"--udp-engine=classic", "--udp-disable=tso, uso", "--udp-disable=udp_gro"},
			want: func(o *Options) { o.UDPEngine, o.UDPDisable = UDPEngineClassic, []string{"tso", "uso", "udp_gro"} }},
		{name: "-v means debug", args: []string{"-v=1"},
			want: func(o *Options) { o.LogLevel = slog.LevelDebug }},
		{name: "-v does not overrule --log-level", args: []string{"-v", "10", "--log-level=error"},
			want: func(o *Options) { o.LogLevel = slog.LevelError }},
		{name: "flannel's environment",
			env: []string{"FLANNELD_ETCD_ENDPOINTS=http://10.0.0.2:2379", "FLANNELD_IP_MASQ=true", "FLANNELD_IFACE=eth1,eth2", "FLANNELD_V=2"},
			want: func(o *Options) {
				o.Etcd.Endpoints, o.IPMasq, o.Iface, o.LogLevel = []string{"http://10.0.0.2:2379"}, true, []string{"eth1", "eth2"}, slog.LevelDebug
			}},
		{name: "weft's environment wins over flannel's",
			env:  []string{"WEFTD_ETCD_PREFIX=/w", "FLANNELD_ETCD_PREFIX=/f"},
			want: func(o *Options) { o.Etcd.Prefix = "/w" }},
		{name: "an empty variable is as good as none",
			env:  []string{"WEFTD_ETCD_PREFIX=", "FLANNELD_ETCD_PREFIX=/f", "FLANNELD_IPTABLES_RESYNC="},
			want: func(o *Options) { o.Etcd.Prefix = "/f" }},
		{name: "the command line wins over both, also for repeatable flags",
			args: []string{"--iface=eth0", "--iptables-forward-rules=true"},
			env:  []string{"WEFTD_IFACE=eth1", "FLANNELD_IFACE=eth2", "WEFTD_IPTABLES_FORWARD_RULES=false"},
			want: func(o *Options) { o.Iface = []string{"eth0"} }},
		{name: "a bad variable that the command line overrules",
			args: []string{"--iptables-resync=7"}, env: []string{"WEFTD_IPTABLES_RESYNC=x"},
			want: func(o *Options) { o.FirewallInterval = 7 * time.Second }},
		{name: "the container image's FLANNELD_VERSION", env: []string{"FLANNELD_VERSION=v0.27.0"}, want: func(*Options) {}},
		{name: "other programs' variables", env: []string{"PATH=/bin", "FLANNEL_NETWORK=10.5.0.0/16", "WEFT=1"}, want: func(*Options) {}},
		{name: "no Kubernetes, said aloud", args: []string{"--kube-subnet-mgr=false"}, want: func(*Options) {}},
		{name: "without a meaning here",
			args: []string{"--kube-api-url=x", "--set-node-network-unavailable", "-vmodule=a=1"}, env: []string{"FLANNELD_LOG_BACKTRACE_AT=x:1"},
			want: func(o *Options) {
				o.Warnings = []string{"accepted for flannel's sake, without effect in weft: --kube-api-url, --vmodule, FLANNELD_LOG_BACKTRACE_AT, --set-node-network-unavailable"}
			}},
		{name: "variables that stand for no flag",
			env: []string{"WEFTD_IP_MASK=true", "FLANNELD_STATE_DIR=/x", "FLANNELD_ETCD_PREFIX=/f"},
			want: func(o *Options) {
				o.Etcd.Prefix = "/f"
				o.Warnings = []string{
					"environment variable WEFTD_IP_MASK stands for no flag and is ignored; is it a typing error?",
					"environment variable FLANNELD_STATE_DIR stands for no flag and is ignored; is it a typing error?",
				}
			}},
		{name: "endpoints without a scheme, as flannel takes them",
			args: []string{"--etcd-endpoints=10.0.0.2:2379,[2001:db8::1]:2379,etcd.example:1"},
			want: func(o *Options) {
				o.Etcd.Endpoints = []string{"http://10.0.0.2:2379", "http://[2001:db8::1]:2379", "http://etcd.example:1"}
			}},
		{name: "with TLS files they are https",
			args: []string{"--etcd-endpoints=10.0.0.2:2379", "--etcd-cafile=ca"},
			want: func(o *Options) {
				o.Etcd.CAFile, o.Etcd.Endpoints = "ca", []string{"https://10.0.0.2:2379"}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults()
			tt.want(&want)
			got, err := Parse(tt.args, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(want, *got); d != "" {
				t.Errorf("differs from expected (-want +got):\n%s", d)
			}
		})
	}
}

func TestParseVersionChecksNothingElse(t *testing.T) {
	o, err := Parse([]string{"--version", "junk", "--etcd-certfile=only"}, nil)
	if err != nil || !o.Version {
		t.Errorf("Parse = %+v, %v", o, err)
	}
}

func TestParseHelp(t *testing.T) {
	for _, arg := range []string{"-h", "--help", "-help"} {
		if _, err := Parse([]string{"--ip-masq", arg}, nil); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("Parse(%s): error %v, want flag.ErrHelp", arg, err)
		}
	}
}
