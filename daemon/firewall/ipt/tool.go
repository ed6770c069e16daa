// Package ipt puts weft's rules into the host's firewall with the iptables
// commands, of either flavour.
//
// It reads with iptables-save and writes with iptables-restore --noflush, and
// uses the go-iptables library to find and try the commands. Changing rule by
// rule through the library would leave moments with half a chain, and a crash
// would make them last; a restore commits each table as a whole.
package ipt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Flavour is the kernel side that an iptables command works on. Rules of one
// flavour cannot be seen with the other, but packets walk both.
type Flavour string

const (
	Legacy Flavour = "iptables-legacy" // x_tables
	NFT    Flavour = "iptables-nft"    // nf_tables
)

// lockWait is how long a command waits for /run/xtables.lock, in seconds.
const lockWait = 5

// commandTimeout bounds one command, the wait for the lock included.
const commandTimeout = 30 * time.Second

// Tool is one flavour's set of commands. Its methods are not safe for
// concurrent use.
type Tool struct {
	Flavour Flavour
	Default bool // it is what the plain command "iptables" stands for

	name string            // "iptables", "iptables-nft" or "iptables-legacy"
	seen map[string]string // chain contents right after our last write, see chainKey
}

// Find returns the flavours installed on the host, the default one first.
func Find() []*Tool {
	var tools []*Tool
	for _, name := range []string{"iptables", "iptables-nft", "iptables-legacy"} {
		version, err := exec.Command(name, "--version").Output()
		if err != nil {
			continue
		}
		flavour := Legacy // older than 1.8 there is no other, and no mark
		if strings.Contains(string(version), "nf_tables") {
			flavour = NFT
		}
		known := len(tools) > 0 && tools[0].Flavour == flavour
		if !known {
			tools = append(tools, &Tool{
				Flavour: flavour,
				Default: name == "iptables",
				name:    name,
				seen:    map[string]string{},
			})
		}
	}
	return tools
}

// family names the commands of one address family.
type family string

const (
	ipv4 family = "ip"
	ipv6 family = "ip6"
)

func (t *Tool) command(f family, suffix string) string {
	return string(f) + strings.TrimPrefix(t.name, "ip") + suffix
}

// Usable tells why the tool cannot work here, or nil. It may make the kernel
// set up the (empty) nat table.
func (t *Tool) Usable() error {
	ipt, err := iptables.New(iptables.Path(t.name), iptables.Timeout(lockWait))
	if err != nil {
		return fmt.Errorf("try %s: %w", t.name, err)
	}
	// From the same version on, 1.6.2, iptables-restore knows --wait.
	if !ipt.HasRandomFully() {
		major, minor, patch := ipt.GetIptablesVersion()
		return fmt.Errorf("%s is version %d.%d.%d, weft needs 1.6.2 or newer", t.name, major, minor, patch)
	}
	if _, err := ipt.ListChains("nat"); err != nil {
		return fmt.Errorf("try %s: %w", t.name, err)
	}
	return nil
}

// Foreign counts the rules of this flavour, of both address families, that
// weft did not make, and tells whether Docker's are among them.
func (t *Tool) Foreign() (rules int, docker bool) {
	for _, f := range []family{ipv4, ipv6} {
		tables, err := t.save(f)
		if err != nil {
			continue // a family without commands holds no rules of this flavour
		}
		n, d := foreign(tables)
		rules, docker = rules+n, docker || d
	}
	return rules, docker
}

func (t *Tool) save(f family) (map[string]*table, error) {
	out, err := t.run(t.command(f, "-save"), "")
	if err != nil {
		return nil, err
	}
	return parseSave(out), nil
}

func (t *Tool) restore(f family, script string) error {
	_, err := t.run(t.command(f, "-restore"), script, "--noflush", fmt.Sprintf("--wait=%d", lockWait))
	return err
}

// exitResource is iptables' exit status for a lock that stayed taken
// (RESOURCE_PROBLEM in xtables.h).
const exitResource = 4

func (t *Tool) run(name, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	said := strings.Join(strings.Fields(stderr.String()), " ")
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("run %s: %w: install the package iptables, or use nftables", name, err)
	case errors.As(err, &exit) && exit.ExitCode() == exitResource && strings.Contains(said, "lock"):
		return "", fmt.Errorf("run %s: another program holds the xtables lock for more than %d s; tried again later: %w", name, lockWait, err)
	default:
		return "", fmt.Errorf("run %s: %w: %s", name, err, said)
	}
}

// Ensure makes the rules what sets says, touching weft's own chains and jumps
// only. Each table is changed as a whole or not at all.
func (t *Tool) Ensure(sets rule.Sets) (rule.Report, error) {
	var report rule.Report
	var errs []error
	for _, f := range []struct {
		family family
		set    rule.Set
	}{{ipv4, sets.IPv4}, {ipv6, sets.IPv6}} {
		r, err := t.ensure(f.family, f.set)
		if errors.Is(err, exec.ErrNotFound) && f.set.Empty() {
			continue // no commands for this family, and nothing wanted of them
		}
		report.Add(r)
		errs = append(errs, err)
	}
	return report, errors.Join(errs...)
}

// LegacyInUse tells whether x_tables holds tables in the network namespace of
// the calling thread, of any address family. Looking with iptables-legacy
// itself would create them.
func LegacyInUse() bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		// The thread's own directory: /proc/net is that of the main thread.
		if names, err := os.ReadFile("/proc/thread-self/net/" + name); err == nil && len(names) > 0 {
			return true
		}
	}
	return false
}
