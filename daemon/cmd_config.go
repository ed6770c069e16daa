package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd"
)

const configUsage = `Usage: weftd config get                 print the network config
       weftd config set FILE|-|JSON     check the network config and write it
`

func cmdConfig(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, configUsage, map[string]command{"get": cmdConfigGet, "set": cmdConfigSet}, args, stdout, stderr)
}

const configGetUsage = `Usage: weftd config get [--effective] [etcd flags]

Prints the network config as it is in etcd.
`

func cmdConfigGet(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var effective bool
	set := options.NewSet("weftd config get")
	set.Bool(&effective, "effective", "print it with the defaults filled in")
	registry, status, ok := parseWithRegistry(set, configGetUsage, args, 0, stdout, stderr)
	if !ok {
		return status
	}
	defer registry.Close()
	raw, err := registry.Config(ctx)
	if errors.Is(err, subnet.ErrNoConfig) {
		err = fmt.Errorf("%w; write one with `weftd config set`", err)
	}
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	text := string(raw)
	if effective {
		config, err := subnet.ParseConfig(raw)
		if err == nil {
			text, err = effectiveConfig(config)
		}
		if err != nil {
			return fail(stderr, exitFailed, err)
		}
	}
	fmt.Fprintln(stdout, strings.TrimRight(text, "\n"))
	return exitOK
}

const configSetUsage = `Usage: weftd config set FILE|-|JSON [--force] [etcd flags]

Checks a network config and writes it to etcd: from a file, from standard input
(-), or given as it is, for instance
  weftd config set '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'
Running daemons take it when they are restarted. An etcd that does not answer
is waited for, up to 15 s.
`

func cmdConfigSet(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var force bool
	set := options.NewSet("weftd config set")
	set.Bool(&force, "force", "write it even if leases lie outside the new network, or weft cannot run the backend")
	registry, status, ok := parseWithRegistry(set, configSetUsage, args, 1, stdout, stderr)
	if !ok {
		return status
	}
	defer registry.Close()
	raw, err := readConfig(set.Args()[0], os.Stdin)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	config, err := subnet.ParseConfig(raw)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	if err := checkBackend(config); err != nil && force {
		warn(stderr, err.Error())
	} else if err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("%w; --force writes it all the same", err))
	}
	for _, field := range subnet.UnknownFields(raw) {
		warn(stderr, fmt.Sprintf("field %q is unknown and has no effect", field))
	}
	if err := setConfig(ctx, patient{registry, stderr}, config, raw, force); err != nil {
		return fail(stderr, exitFailed, err)
	}
	effective, err := effectiveConfig(config)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	fmt.Fprintf(stdout, "Written. With its defaults the network config is\n%s\nRunning daemons take it when they are restarted.\n", effective)
	return exitOK
}

// parseWithRegistry is parse for commands that talk to etcd themselves, with
// count arguments.
func parseWithRegistry(set *options.Set, usage string, args []string, count int, stdout, stderr io.Writer) (r *etcd.Registry, status int, ok bool) {
	var e options.Etcd
	e.AddFlags(set)
	if status, ok := parse(set, usage, args, count, count, stdout, stderr); !ok {
		return nil, status, false
	}
	err := e.Check(set)
	if err != nil {
		return nil, fail(stderr, exitUsage, err), false
	}
	r, err = etcd.New(etcd.Config{
		Endpoints: e.Endpoints, Prefix: e.Prefix,
		CertFile: e.CertFile, KeyFile: e.KeyFile, CAFile: e.CAFile,
		Username: e.Username, Password: string(e.Password),
	})
	if err != nil {
		return nil, fail(stderr, exitFailed, err), false
	}
	return r, exitOK, true
}

// maxConfig bounds a network config, in bytes. Etcd takes no value larger
// than 1.5 MiB.
const maxConfig = 1 << 20

// readConfig reads the config that the argument is, or names.
func readConfig(arg string, stdin io.Reader) ([]byte, error) {
	if strings.HasPrefix(strings.TrimSpace(arg), "{") {
		return []byte(arg), nil
	}
	in := stdin
	if arg != "-" {
		f, err := os.Open(arg)
		if err != nil {
			return nil, fmt.Errorf("read the network config: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read the network config: %w", err)
	}
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("read the network config: %s is larger than %d bytes; is it the right file?", arg, maxConfig)
	}
	return raw, nil
}

// configStore is what setConfig needs of a registry.
type configStore interface {
	Config(ctx context.Context) ([]byte, error)
	Snapshot(ctx context.Context) (*subnet.Snapshot, error)
	SetConfig(ctx context.Context, old, value []byte) error
}

// setConfig writes the network config, raw, unless a lease lies outside it and
// force does not allow for that.
func setConfig(ctx context.Context, store configStore, config *subnet.Config, raw []byte, force bool) error {
	old, err := store.Config(ctx)
	if err != nil && !errors.Is(err, subnet.ErrNoConfig) {
		return err
	}
	if !force {
		snapshot, err := store.Snapshot(ctx)
		if err != nil {
			return err
		}
		if err := refuseOutside(config, snapshot.Leases); err != nil {
			return err
		}
	}
	err = store.SetConfig(ctx, old, raw)
	if errors.Is(err, subnet.ErrChanged) {
		err = fmt.Errorf("%w: somebody else writes the network config at the same time; look at it with `weftd config get` and try again", err)
	}
	return err
}

// refuseOutside returns an error that names the leases outside the network.
func refuseOutside(config *subnet.Config, leases []subnet.Lease) error {
	const shown = 10
	var outside []string
	for _, l := range leases {
		if !config.Covers(l.Subnet) {
			outside = append(outside, fmt.Sprintf("%s of %s", l.Subnet, owner(l.Attrs)))
		}
	}
	if len(outside) == 0 {
		return nil
	}
	names := strings.Join(outside[:min(len(outside), shown)], ", ")
	if more := len(outside) - shown; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("not written, since the new network does not hold every subnet that is leased: %s; "+
		"stop those nodes and let their leases expire, or write it all the same with --force", names)
}

// owner is how to tell a human whose lease it is.
func owner(a subnet.Attrs) string {
	if a.PublicIP.IsValid() {
		return a.PublicIP.String()
	}
	if a.PublicIPv6.IsValid() {
		return a.PublicIPv6.String()
	}
	return "an unknown node"
}

// fullConfig is a network config with nothing left to defaults, in flannel's
// words.
type fullConfig struct {
	Network              netip.Prefix
	SubnetLen            int
	SubnetMin, SubnetMax netip.Addr

	EnableIPv4    bool
	EnableIPv6    bool
	IPv6Network   netip.Prefix `json:",omitzero"`
	IPv6SubnetLen int          `json:",omitzero"`
	IPv6SubnetMin netip.Addr   `json:",omitzero"`
	IPv6SubnetMax netip.Addr   `json:",omitzero"`

	EnableNFTables bool
	Backend        json.RawMessage
}

// effectiveConfig is the network config with the defaults filled in, as JSON.
func effectiveConfig(c *subnet.Config) (string, error) {
	j := fullConfig{
		Network: c.Network, SubnetLen: c.IPv4.SubnetLen, SubnetMin: c.IPv4.Min, SubnetMax: c.IPv4.Max,
		EnableIPv4: true, EnableIPv6: c.DualStack(),
		IPv6Network: c.IPv6Network, IPv6SubnetLen: c.IPv6.SubnetLen, IPv6SubnetMin: c.IPv6.Min, IPv6SubnetMax: c.IPv6.Max,
		EnableNFTables: c.EnableNFTables,
		Backend:        c.Backend,
	}
	if j.Backend == nil {
		j.Backend = json.RawMessage(`{"Type":"` + c.BackendType + `"}`)
	}
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return "", fmt.Errorf("print the network config: %w", err)
	}
	return string(text), nil
}
