package firewall

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestChoice(t *testing.T) {
	const (
		rulesLegacy  = "iptables-legacy -A INPUT -j ACCEPT; iptables-legacy -A INPUT -j ACCEPT"
		ruleNFT      = "iptables-nft -A INPUT -j ACCEPT"
		dockerLegacy = "ip6tables-legacy -N DOCKER; ip6tables-legacy -A FORWARD -j DOCKER"
		dockerNFT    = "iptables-nft -N DOCKER; iptables-nft -A FORWARD -j DOCKER"
	)
	for _, c := range []struct {
		name, setup string
		mode        Mode
		want        Mode
		why         string
		warns       bool
	}{
		{"nothing there", "", ModeAuto, "default", "what the command iptables stands for", false},
		{"rules in legacy", rulesLegacy, ModeAuto, ModeIPTablesLegacy, "holds the host's rules", false},
		{"rules in nft", ruleNFT, ModeIPTables, ModeIPTablesNFT, "holds the host's rules", false},
		{"Docker in legacy", dockerLegacy, ModeAuto, ModeIPTablesLegacy, "Docker's rules", false},
		{"more in legacy, Docker in nft", rulesLegacy + ";" + dockerNFT, ModeAuto, ModeIPTablesNFT, "Docker's rules", true},
		{"more in legacy", rulesLegacy + ";" + ruleNFT, ModeAuto, ModeIPTablesLegacy, "holds the host's rules", true},
		{"legacy asked for", ruleNFT, ModeIPTablesLegacy, ModeIPTablesLegacy, "asked for", false},
		{"nft asked for", rulesLegacy, ModeIPTablesNFT, ModeIPTablesNFT, "asked for", false},
		{"nftables asked for", rulesLegacy, ModeNFTables, ModeNFTables, "asked for", false},
		{"own rules do not count", "iptables-legacy -N WEFT-FORWARD; iptables-legacy -A FORWARD -j WEFT-FORWARD; iptables-legacy -A WEFT-FORWARD -j ACCEPT; iptables-legacy -A WEFT-FORWARD -j ACCEPT;" + ruleNFT,
			ModeAuto, ModeIPTablesNFT, "holds the host's rules", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.setup, "legacy") || c.mode == ModeIPTablesLegacy {
				requireLegacy(t)
			}
			ns := labtest.Namespace(t, "choice")
			_, err := ns.Output("sh", "-c", "true;"+c.setup)
			must(t, err)
			var logged bytes.Buffer
			var fw *Firewall
			must(t, ns.Do(func() (err error) {
				fw, err = New(c.mode, slog.New(slog.NewTextHandler(&logged, nil)))
				return err
			}))
			want := c.want
			if want == "default" {
				want = defaultFlavour(t)
			}
			if s := fw.Status(); s.Mode != want || !strings.Contains(s.Why, c.why) {
				t.Errorf("chose %s because %q, want %s because %q", s.Mode, s.Why, want, c.why)
			}
			if warned := strings.Contains(logged.String(), "both iptables-nft and iptables-legacy"); warned != c.warns {
				t.Errorf("warned: %v, want %v: %s", warned, c.warns, &logged)
			}
		})
	}
}

func defaultFlavour(t *testing.T) Mode {
	out, err := labtest.Namespace(t, "default").Output("iptables", "--version")
	must(t, err)
	if strings.Contains(out, "nf_tables") {
		return ModeIPTablesNFT
	}
	return ModeIPTablesLegacy
}

// Looking at the legacy flavour must not set it up: its presence alone makes
// iptables-nft warn, and packets walk it.
func TestChoiceLeavesNoTrace(t *testing.T) {
	// Where the host's default is the legacy flavour, that one is set up.
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			must(t, os.Symlink(labtest.Program(t, "iptables", name+"-nft"+suffix), filepath.Join(dir, name+suffix)))
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ns := labtest.Namespace(t, "trace")
	must(t, ns.Do(func() error {
		if _, err := New(ModeAuto, quietLog()); err != nil {
			return err
		}
		names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
		if len(names) > 0 {
			t.Errorf("legacy tables set up: %q", names)
		}
		return err
	}))
}

func TestChoiceWithoutCommands(t *testing.T) {
	ns := labtest.Namespace(t, "bare")
	t.Setenv("PATH", t.TempDir())
	must(t, ns.Do(func() error {
		fw, err := New(ModeAuto, quietLog())
		if err != nil {
			return err
		}
		if s := fw.Status(); s.Mode != ModeNFTables || !strings.Contains(s.Why, "not found in PATH") {
			t.Errorf("chose %s because %q", s.Mode, s.Why)
		}
		for _, mode := range []Mode{ModeIPTables, ModeIPTablesNFT, ModeIPTablesLegacy} {
			if _, err := New(mode, quietLog()); err == nil || !strings.Contains(err.Error(), "install the package iptables, or use nftables") {
				t.Errorf("%s without commands: %v", mode, err)
			}
		}
		if _, err := New("ufw", quietLog()); err == nil || !strings.Contains(err.Error(), `"ufw"`) {
			t.Errorf("an unknown mode: %v", err)
		}
		return nil
	}))
}

// A version of iptables from before --wait and --random-fully is refused by
// its number.
func TestChoiceOfAnOldVersion(t *testing.T) {
	ns := labtest.Namespace(t, "old")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "iptables"), []byte("#!/bin/sh\necho iptables v1.4.21\n"), 0o755))
	must(t, os.Symlink("/bin/sh", filepath.Join(dir, "sh")))
	t.Setenv("PATH", dir)
	must(t, ns.Do(func() error {
		if _, err := New(ModeIPTables, quietLog()); err == nil || !strings.Contains(err.Error(), "version 1.4.21, weft needs 1.6.2") {
			t.Errorf("iptables 1.4.21: %v", err)
		}
		return nil
	}))
}

// Without iptables commands the forwarding drops of iptables-nft are still
// lifted, over netlink.
func TestForwardDropWithoutCommands(t *testing.T) {
	n := newNode(t)
	dropForward(t, n, ModeIPTablesNFT)
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	n.start(t, ModeAuto, full())
	t.Setenv("PATH", path)
	checkForwarding(t, n)
}
