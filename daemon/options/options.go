// Package options reads the daemon's options from the command line and the
// environment: flannel's flags with flannel's meaning, and weft's own. It
// touches nothing but the text it is given.
package options

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Options is what the daemon is told to do.
type Options struct {
	Version bool // print the version and exit; nothing else is checked then

	Etcd     Etcd
	Embedded *Embedded // nil without --etcd-embedded

	// Which interface carries the tunnel, in the order of precedence. All
	// empty: that of the default route.
	Iface         []string         // names or addresses
	IfaceRegex    []*regexp.Regexp // of names or addresses
	IfaceCanReach netip.Addr       // zero if not given

	PublicIP, PublicIPv6 netip.Addr // zero: the interface's

	SubnetFile       string
	StateDir         string
	ControlSocket    string
	LeaseRenewMargin time.Duration // a lease is renewed this long before it expires

	IPMasq           bool
	MasqRandomFully  bool
	ForwardRules     bool
	FirewallInterval time.Duration // how often rules are looked at again
	Firewall         Firewall
	BlackholeRoute   bool // for this node's own subnet

	UDPEngine  UDPEngine
	UDPDisable []string // capabilities of the kernel that are not to be used

	HealthzIP   netip.Addr
	HealthzPort int // 0: off

	LogLevel  slog.Level
	LogFormat LogFormat

	// Warnings are for the log: flags without a meaning here, variables that
	// stand for no flag.
	Warnings []string
}

// Firewall says which of the kernel's rule languages is used.
type Firewall string

const (
	FirewallAuto           Firewall = "auto"
	FirewallIPTables       Firewall = "iptables"
	FirewallIPTablesNFT    Firewall = "iptables-nft"
	FirewallIPTablesLegacy Firewall = "iptables-legacy"
	FirewallNFTables       Firewall = "nftables"
	FirewallOff            Firewall = "off" // no rules are made
)

// UDPEngine says how the udp backend moves packets.
type UDPEngine string

const (
	UDPEngineGSO     UDPEngine = "gso"     // superpackets
	UDPEngineClassic UDPEngine = "classic" // one packet for each system call, for comparison
)

// LogFormat is the form of log lines.
type LogFormat string

const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Default paths, for those who do not read the daemon's options.
const (
	DefaultControlSocket = "/run/weft/weftd.sock"
	DefaultStateDir      = "/var/lib/weft"
	DefaultSubnetFile    = "/run/flannel/subnet.env"
)

// Parse reads the daemon's options; environ has the form of os.Environ. It
// returns flag.ErrHelp where help is asked for: see Usage.
func Parse(args, environ []string) (*Options, error) {
	var p parser
	set := p.flags()
	if err := set.Parse(args, environ); err != nil {
		return nil, err
	}
	if p.Version {
		return &p.Options, nil
	}
	if rest := set.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q: flags with a value are written --name=value, switches --name or --name=false", rest[0])
	}
	if err := p.finish(set); err != nil {
		return nil, err
	}
	for _, name := range set.unknownVariables(environ) {
		p.Warnings = append(p.Warnings, "environment variable "+name+" stands for no flag and is ignored; is it a typing error?")
	}
	return &p.Options, nil
}

// parser is Options in the making, with the flags that end up elsewhere.
type parser struct {
	Options
	embed              Embedded
	runEmbedded        bool
	randomFullyDisable bool
	verbosity          int
	kubernetes         bool
}

// finish derives what depends on several flags and checks them together.
func (p *parser) finish(s *Set) error {
	if p.kubernetes {
		return fmt.Errorf("%s: weft has no Kubernetes mode; it keeps leases in etcd, see --%s", s.origin(flagKubernetes), flagEtcdEndpoints)
	}
	if p.runEmbedded {
		if err := p.embed.check(s, p.StateDir); err != nil {
			return err
		}
		if !s.Given(flagEtcdEndpoints) {
			p.embed.client(&p.Etcd)
		}
		p.Embedded = &p.embed
	} else if err := withoutEmbedded(s); err != nil {
		return err
	}
	if err := p.Etcd.Check(s); err != nil {
		return err
	}
	if p.Firewall == FirewallOff && p.IPMasq {
		return errors.New("--ip-masq needs firewall rules: give it or --firewall=off, not both")
	}
	p.MasqRandomFully = !p.randomFullyDisable
	if p.verbosity > 0 && !s.Given(flagLogLevel) {
		p.LogLevel = slog.LevelDebug
	}
	if given := ignored(s); len(given) > 0 {
		p.Warnings = append(p.Warnings, "accepted for flannel's sake, without effect in weft: "+strings.Join(given, ", "))
	}
	return nil
}

// withoutEmbedded refuses the flags of a member that does not run: without
// one the daemon would wait for an etcd that nobody starts.
func withoutEmbedded(s *Set) error {
	for _, f := range s.flags {
		if f.group == groupEmbedded && f.name != flagEmbedded && s.Given(f.name) {
			return errors.New(s.origin(f.name) + " has no meaning without --" + flagEmbedded)
		}
	}
	return nil
}

// ignored returns how the flags without a meaning in weft were given.
func ignored(s *Set) []string {
	var given []string
	for _, f := range s.flags {
		if f.group == groupIgnored && s.Given(f.name) && f.name != flagKubernetes {
			given = append(given, s.origin(f.name))
		}
	}
	return given
}
