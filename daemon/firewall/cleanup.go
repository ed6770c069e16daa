package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/weftnet/weft/daemon/firewall/ipt"
	"github.com/weftnet/weft/daemon/firewall/nft"
	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Cleanup removes every rule and chain that weft made, in any mode, and nothing
// else. Tables that iptables made for them stay, empty: they may be in use.
// It may be called any number of times.
func Cleanup(log *slog.Logger) error {
	h := inspect()
	if errors.Is(h.nftables, os.ErrPermission) {
		return fmt.Errorf("remove firewall rules: %w", h.nftables)
	}
	var total rule.Report
	var errs []error
	collect := func(r rule.Report, err error) {
		total.Add(r)
		errs = append(errs, err)
	}
	if ipt.LegacyInUse() {
		if legacy := h.tool(ipt.Legacy); legacy != nil {
			collect(legacy.Ensure(rule.Sets{}))
		} else {
			log.Warn("the kernel has iptables-legacy tables, and no iptables-legacy command was found to look into them")
		}
	}
	if h.nftables == nil {
		// Weft's chains in the tables of others, whichever mode made them.
		for _, host := range []nft.Host{nft.IPTables, nft.Docker} {
			guest := nft.Guest{Host: host}
			collect(guest.Ensure(rule.Sets{}))
		}
		var table nft.Table
		collect(table.Ensure(rule.Sets{}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove firewall rules: %w", err)
	}
	if len(total.Changed) > 0 {
		log.Info("firewall rules removed", "chains", strings.Join(total.Changed, ", "))
	}
	return nil
}
