package ipt

import (
	"strings"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

const comment = "-m comment --comment " + rule.Comment

// spec renders a rule as the arguments that follow "-A CHAIN".
func spec(r rule.Rule) string {
	var args []string
	if r.Src.IsValid() {
		args = append(args, "-s "+r.Src.String())
	}
	if r.Dst.IsValid() {
		args = append(args, "-d "+r.Dst.String())
	}
	if r.In != "" {
		args = append(args, "-i "+r.In)
	}
	if r.Out != "" {
		args = append(args, "-o "+r.Out)
	}
	if r.Action == rule.ClampMSS {
		args = append(args, "-p tcp -m tcp --tcp-flags SYN,RST SYN")
	}
	args = append(args, comment, "-j "+verdict(r))
	if r.RandomFully {
		args = append(args, "--random-fully")
	}
	return strings.Join(args, " ")
}

func verdict(r rule.Rule) string {
	switch r.Action {
	case rule.Return:
		return "RETURN"
	case rule.Masquerade:
		return "MASQUERADE"
	case rule.SNAT:
		return "SNAT --to-source " + r.To.String()
	case rule.ClampMSS:
		// The target takes the smaller MTU of the route ahead and the route
		// back (tcpmss_reverse_mtu in net/netfilter/xt_TCPMSS.c), so the same
		// rule is right for both directions.
		return "TCPMSS --clamp-mss-to-pmtu"
	default:
		// In the nat table an accept ends the walk for the connection's first
		// packet, and the kernel then fixes the untranslated address: that is
		// KeepSource, towards all rules of the same flavour.
		return "ACCEPT"
	}
}

// jumpSpec renders the rule that leads to a chain.
func jumpSpec(chain string) string { return comment + " -j " + chain }
