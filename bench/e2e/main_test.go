// Package e2e holds the end-to-end cases: real weftd processes on hosts made
// of network namespaces, a real etcd, and traffic between containers.
//
// A case builds its cluster with start, or step by step with build and the
// methods of cluster, and then does to it what it is about.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/bench/lab"
)

// The binaries that the cases run.
var weftdPath, benchPath, cniPath string

// TestMain takes the binaries from the folder WEFT_BIN, or builds them.
func TestMain(m *testing.M) {
	if dir := os.Getenv(etcdDirVariable); dir != "" {
		fmt.Fprintln(os.Stderr, "etcd:", serveEtcd(dir, os.Getenv(etcdURLVariable)))
		os.Exit(1)
	}
	if nodes := os.Getenv(nodesVariable); nodes != "" {
		if err := registerNodes(nodes, os.Getenv(etcdURLVariable)); err != nil {
			fmt.Fprintln(os.Stderr, "register nodes:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if how := os.Getenv(deprivedVariable); how != "" {
		fmt.Fprintln(os.Stderr, "become weftd:", becomeDeprived(how, os.Getenv(deprivedWeftd), os.Args[1:]))
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every case skips itself, with the reason
	}
	if _, err := lab.Sweep(namePrefix); err != nil {
		fmt.Fprintln(os.Stderr, "remove what a crashed run left:", err)
		return 1
	}
	dir := os.Getenv("WEFT_BIN")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "weft-bin-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		for name, folder := range map[string]string{"weftd": "daemon", "weft-bench": "bench", "weft-cni": "cni"} {
			build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/weftnet/weft/"+folder)
			build.Stdout, build.Stderr = os.Stderr, os.Stderr
			if err := build.Run(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n", name, err)
				return 1
			}
		}
	}
	weftdPath, benchPath, cniPath = filepath.Join(dir, "weftd"), filepath.Join(dir, "weft-bench"), filepath.Join(dir, "weft-cni")
	return m.Run()
}
