// Weft-cni is weft's CNI plugin, for container runtimes other than Docker. It
// attaches containers to this node's subnet through the reference plugins.
//
// It takes the place of flannel's CNI plugin: called flannel, by a link or a
// copy, it serves conflists of the type "flannel" unchanged.
package main

import (
	"context"
	"os"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/weftnet/weft/cni/plugin"
)

func main() {
	p := &plugin.Plugin{Stdout: os.Stdout, Stderr: os.Stderr}
	skel.PluginMainFuncs(p.Funcs(context.Background()), plugin.Versions,
		"weft-cni, the CNI plugin of weft; see https://github.com/weftnet/weft/blob/main/docs/cni.md")
}
