package nft

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
)

// Droppers names the chains, outside the tables that iptables-nft manages,
// that drop forwarded packets by policy. They belong to somebody else, and no
// rule of weft's in another table can let packets past them.
func Droppers() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nf_tables chains: %w", err)
	}
	families := map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
	}
	var names []string
	for _, c := range chains {
		family, ok := families[c.Table.Family]
		if !ok || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		if family != "inet" && c.Table.Name == "filter" && c.Name == "FORWARD" {
			continue // see Guest
		}
		names = append(names, fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name))
	}
	return names, nil
}

// RemoveFlannel removes the tables of a flanneld in nftables mode that ran
// here before, and tells whether there were any. What they say of source NAT
// would be carried out wherever weft's rules leave it undecided.
func RemoveFlannel() (found bool, err error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nf_tables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return false, fmt.Errorf("list nf_tables tables: %w", err)
	}
	for _, t := range tables {
		if t.Family == nftables.TableFamilyIPv4 && t.Name == "flannel-ipv4" || t.Family == nftables.TableFamilyIPv6 && t.Name == "flannel-ipv6" {
			conn.DelTable(t)
			found = true
		}
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return found, fmt.Errorf("remove flannel's tables: %w", err)
	}
	return found, nil
}
