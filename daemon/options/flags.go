package options

import "time"

// Headings of --help.
const (
	groupEtcd     = "Etcd (flags of flannel)"
	groupEmbedded = "Etcd inside the daemon"
	groupNode     = "This node (flags of flannel)"
	groupFirewall = "Masquerade and forwarding (flags of flannel)"
	groupHealth   = "Health and log (flags of flannel)"
	groupWeft     = "Weft's own"
	groupDebug    = "Finding faults and comparing"
	groupIgnored  = "Flags of flannel without a meaning in weft"
)

const (
	flagKubernetes = "kube-subnet-mgr"
	flagLogLevel   = "log-level"
)

// flags returns the daemon's flags, in the order of --help.
func (p *parser) flags() *Set {
	s := NewSet("weftd")
	p.Etcd.AddFlags(s)
	p.embed.addFlags(s, &p.runEmbedded)
	p.nodeFlags(s)
	p.firewallFlags(s)
	p.healthFlags(s)
	p.weftFlags(s)
	p.debugFlags(s)
	p.ignoredFlags(s)
	return s
}

func (p *parser) nodeFlags(s *Set) {
	s.group = groupNode
	addList(s, &p.Iface, info{name: "iface", arg: "NAME|IP[,...]", flannel: true,
		usage: "interface between the nodes; repeatable, the first that exists is taken; default: that of the default route"}, parseNames)
	addList(s, &p.IfaceRegex, info{name: "iface-regex", arg: "REGEX", flannel: true,
		usage: "expression for the interface's name or address, tried after --iface; repeatable, the first match is taken; not split at commas"}, parseRegexp)
	add(s, &p.IfaceCanReach, info{name: "iface-can-reach", arg: "IP", flannel: true,
		usage: "take the interface by which the kernel would send to this address"}, parseNodeAddr)
	add(s, &p.PublicIP, info{name: "public-ip", arg: "IP", flannel: true,
		usage: "IPv4 address that other nodes send to, for instance behind NAT; default: the interface's"}, parseNodeAddr4)
	add(s, &p.PublicIPv6, info{name: "public-ipv6", arg: "IP", flannel: true,
		usage: "IPv6 address that other nodes send to; default: the interface's"}, parseNodeAddr6)
	AddSubnetFile(s, &p.SubnetFile)
	add(s, &p.LeaseRenewMargin, info{name: "subnet-lease-renew-margin", arg: "MINUTES", def: "60", flannel: true,
		usage: "renew the lease, which holds for 24 hours, this long before it expires; 1 to 1439"},
		parseCount(1, 24*60-1, time.Minute, "minutes"))
	add(s, &p.BlackholeRoute, info{name: "ip-blackhole-route", def: "false", flannel: true,
		usage: "add a blackhole route for this node's own subnet, for setups without a bridge"}, parseBool)
}

func (p *parser) firewallFlags(s *Set) {
	s.group = groupFirewall
	add(s, &p.IPMasq, info{name: "ip-masq", def: "false", flannel: true,
		usage: "masquerade traffic that leaves the cluster network"}, parseBool)
	add(s, &p.randomFullyDisable, info{name: "ip-masq-fully-random-disable", def: "false", flannel: true,
		usage: "do not randomise the source ports of masqueraded traffic"}, parseBool)
	add(s, &p.ForwardRules, info{name: "iptables-forward-rules", def: "true", flannel: true,
		usage: "accept forwarded traffic of the cluster network"}, parseBool)
	add(s, &p.FirewallInterval, info{name: "iptables-resync", arg: "SECONDS", def: "5", flannel: true,
		usage: "how often rules are checked and put back, with nftables too"},
		parseCount(1, 24*3600, time.Second, "seconds"))
}

func (p *parser) healthFlags(s *Set) {
	s.group = groupHealth
	add(s, &p.HealthzIP, info{name: "healthz-ip", arg: "IP", def: "0.0.0.0", flannel: true,
		usage: "address to serve /healthz and /readyz on"}, parseListenAddr)
	add(s, &p.HealthzPort, info{name: "healthz-port", arg: "PORT", def: "0", flannel: true,
		usage: "port of that; 0 for none"}, parseInt(0, 65535))
	add(s, &p.verbosity, info{name: "v", arg: "N", def: "0", flannel: true,
		usage: "1 or more is --log-level=debug, unless that is given"}, parseInt(0, 1<<31-1))
	add(s, &p.Version, info{name: "version", flannel: true, noEnv: true,
		usage: "print the version and exit"}, parseBool)
}

func (p *parser) weftFlags(s *Set) {
	s.group = groupWeft
	AddStateDir(s, &p.StateDir)
	AddControlSocket(s, &p.ControlSocket)
	add(s, &p.Firewall, info{name: "firewall", arg: "KIND", def: string(FirewallAuto),
		usage: "auto, iptables, iptables-nft, iptables-legacy, nftables, or off for no rules at all; auto takes nftables if the network config says so, else what the host uses"},
		parseOneOf(FirewallAuto, FirewallIPTables, FirewallIPTablesNFT, FirewallIPTablesLegacy, FirewallNFTables, FirewallOff))
	add(s, &p.LogLevel, info{name: flagLogLevel, arg: "LEVEL", def: "info",
		usage: "debug, info, warn or error"}, parseLevel)
	add(s, &p.LogFormat, info{name: "log-format", arg: "FORM", def: string(LogText),
		usage: "text or json"}, parseOneOf(LogText, LogJSON))
}

func (p *parser) debugFlags(s *Set) {
	s.group = groupDebug
	add(s, &p.UDPEngine, info{name: "udp-engine", arg: "KIND", def: string(UDPEngineGSO),
		usage: "gso, or classic: one packet for each system call, to compare with"},
		parseOneOf(UDPEngineGSO, UDPEngineClassic))
	addList(s, &p.UDPDisable, info{name: "udp-disable", arg: "NAME[,NAME...]",
		usage: "do not use these of the capabilities that `weftd status` lists; for kernels and drivers where one is faulty"}, parseNames)
}

// AddSubnetFile adds --subnet-file.
func AddSubnetFile(s *Set, p *string) {
	add(s, p, info{name: "subnet-file", arg: "FILE", def: DefaultSubnetFile, flannel: true,
		usage: "file that tells container runtimes this node's subnet and MTU"}, parsePath)
}

// AddStateDir adds --state-dir.
func AddStateDir(s *Set, p *string) {
	add(s, p, info{name: "state-dir", arg: "DIR", def: DefaultStateDir,
		usage: "where the node's identity and last lease are kept; survives a reboot"}, parsePath)
}

// AddControlSocket adds --control-socket, for the daemon and the subcommands
// that talk to it.
func AddControlSocket(s *Set, p *string) {
	add(s, p, info{name: "control-socket", arg: "FILE", def: DefaultControlSocket,
		usage: "socket by which `weftd status` and others reach the daemon"}, parsePath)
}

// ignoredFlags are accepted so that a unit file written for flanneld works.
// Asking for Kubernetes is an error all the same: see finish.
func (p *parser) ignoredFlags(s *Set) {
	s.group = groupIgnored
	var text string
	var switched bool
	add(s, &p.kubernetes, info{name: flagKubernetes, def: "false", flannel: true,
		usage: "only false is accepted"}, parseBool)
	for _, name := range []string{"kube-api-url", "kube-annotation-prefix", "kubeconfig-file", "net-config-path", "vmodule", "log_backtrace_at"} {
		add(s, &text, info{name: name, arg: "TEXT", flannel: true}, parseText)
	}
	add(s, &switched, info{name: "set-node-network-unavailable", flannel: true}, parseBool)
}
