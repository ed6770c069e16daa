package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/weftnet/weft/daemon/docker"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/internal/atomicfile"
	"github.com/weftnet/weft/subnet/envfile"
)

const dockerOptsUsage = `Usage: weftd docker-opts --daemon-json FILE [flags]
       weftd docker-opts [-d FILE] [-i] [-c] [-k NAME] [-m] [flags]

Puts Docker's default bridge, docker0, on this node's leased subnet. With
--daemon-json it sets bip, mtu and ip-masq (and for IPv6 ipv6 and fixed-cidr-v6)
in Docker's configuration file and leaves the rest of that as it is. Otherwise it
writes a file of variables with the same options for dockerd's command line, as
flannel's mk-docker-opts.sh does. It takes effect when dockerd is started anew,
and may be repeated.
`

// asking is how long docker-opts waits for an answer of Docker's. Where systemd
// holds Docker's socket and runs this command before it starts dockerd, there
// is none.
const asking = 2 * time.Second

func cmdDockerOpts(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		set                       = options.NewSet("weftd docker-opts")
		subnetFile, f, file, json string
		socket                    string
		format                    docker.EnvFormat
	)
	set.String(&json, "daemon-json", "FILE", "", "Docker's configuration file to set the options in, usually /etc/docker/daemon.json")
	set.String(&file, "d", "FILE", "/run/docker_opts.env", "file of variables to write")
	set.Bool(&format.Individual, "i", "write a variable for each option, DOCKER_OPT_BIP for instance; with neither -i nor -c, both kinds")
	set.Bool(&format.Combined, "c", "write one variable with all options")
	set.String(&format.Key, "k", "NAME", "DOCKER_OPTS", "that variable's name; what the environment has by that name goes first in it")
	set.Bool(&format.NoIPMasq, "m", "leave --ip-masq out")
	options.AddSubnetFile(set, &subnetFile)
	set.String(&f, "f", "FILE", "", "the same as --subnet-file")
	addDockerSocket(set, &socket)
	if status, ok := parse(set, dockerOptsUsage, args, 0, 0, stdout, stderr); !ok {
		return status
	}
	if f != "" {
		subnetFile = f
	}
	if json != "" && (set.Given("d") || set.Given("i") || set.Given("c") || set.Given("k") || set.Given("m")) {
		return fail(stderr, exitUsage, errors.New("--daemon-json goes without -d, -i, -c, -k and -m, which are about a file of variables"))
	}
	if !variableName.MatchString(format.Key) {
		return fail(stderr, exitUsage, fmt.Errorf("-k %q: a variable's name has letters, digits and _, and begins with none of the digits", format.Key))
	}
	env, err := readSubnetFile(subnetFile)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	if err := docker0IsFree(ctx, socket, env); err != nil {
		return fail(stderr, exitFailed, err)
	}
	var lines []string
	if json != "" {
		lines, err = writeDaemonJSON(json, env)
	} else {
		if !format.Individual && !format.Combined {
			format.Individual, format.Combined = true, true
		}
		format.Before = os.Getenv(format.Key)
		lines, err = writeDockerEnv(file, docker.OptionsFor(env).Env(format))
	}
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	there, err := docker.OptionsFor(env).OnDocker0()
	switch {
	case err != nil:
		return fail(stderr, exitFailed, err)
	case !there:
		lines = append(lines, fmt.Sprintf("docker0 does not have %s yet: start Docker anew (systemctl restart docker)", env.Subnet))
	case len(lines) > 0:
		lines = append(lines, "it takes effect when Docker is started anew (systemctl restart docker)")
	default:
		lines = append(lines, fmt.Sprintf("nothing to change: docker0 has %s", env.Subnet))
	}
	fmt.Fprintln(stdout, strings.Join(lines, "\n"))
	warnMasquerade(stderr, env)
	return exitOK
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func addDockerSocket(set *options.Set, p *string) {
	set.String(p, "docker-socket", "FILE", docker.DefaultSocket, "socket of the Docker engine on this host")
}

// readSubnetFile reads subnet.env for a user who may not have started weftd yet.
func readSubnetFile(path string) (envfile.File, error) {
	f, err := envfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%s is not there: weftd writes it as soon as it has a lease; start weftd (see `weftd status`), or say with --subnet-file where it is", path)
	}
	if err != nil {
		return f, fmt.Errorf("read the subnet file: %w", err)
	}
	return f, nil
}

// docker0IsFree makes sure that no other bridge has the leased subnet. An engine
// that does not run cannot be asked, and then the bridges of the kernel tell.
func docker0IsFree(ctx context.Context, socket string, env envfile.File) error {
	engine, err := docker.Open(socket)
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	err = engine.FreeForDocker0(ctx, env)
	if errors.Is(err, docker.ErrNotRunning) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func writeDaemonJSON(path string, env envfile.File) (lines []string, err error) {
	// A link is the administrator's way to keep the file elsewhere.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("%s is a link to a file that is not there: make that file, with {} in it, or remove the link", path)
	}
	existing, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read Docker's configuration: %w", err)
	}
	merged, changes, err := docker.MergeJSON(existing, env)
	if err != nil {
		return nil, fmt.Errorf("%s is left as it is: %w", path, err)
	}
	if len(changes) == 0 {
		return nil, nil
	}
	if err := replaceFile(path, merged); err != nil {
		return nil, fmt.Errorf("write Docker's configuration: %w", err)
	}
	lines = []string{"changed " + path + ":"}
	for _, c := range changes {
		lines = append(lines, "  "+c)
	}
	return lines, nil
}

// replaceFile writes a file that keeps its mode and owner, if there was one.
func replaceFile(path string, data []byte) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Write(path, data, 0o644, 0o755)
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, data, info.Mode().Perm(), 0o755); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

func writeDockerEnv(path string, text []byte) (lines []string, err error) {
	existing, err := os.ReadFile(path)
	if err == nil && bytes.Equal(existing, text) {
		return nil, nil
	}
	if err := atomicfile.Write(path, text, 0o644, 0o755); err != nil {
		return nil, fmt.Errorf("write Docker's options: %w", err)
	}
	return []string{"wrote " + path}, nil
}

func warnMasquerade(stderr io.Writer, env envfile.File) {
	if !env.IPMasq {
		warn(stderr, "weftd runs without --ip-masq, so Docker is told to masquerade, and containers on other nodes see this node instead of its containers; with --ip-masq weftd masquerades only what leaves the cluster network")
	}
}
