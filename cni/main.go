// Weft-cni is weft's CNI plugin. In this version it answers VERSION and
// STATUS, but does not attach containers yet: ADD says so by an error, and so
// there is never anything to check, delete or collect.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	supported := version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    notYet,
		Check:  notYet,
		Status: notYet,
		Del:    nothingToDo,
		GC:     nothingToDo,
	}, supported, "CNI plugin weft-cni; it does not attach containers in this version")
}

// notYet has the code by which STATUS tells that ADD cannot be served.
func notYet(*skel.CmdArgs) error {
	return types.NewError(types.ErrPluginNotAvailable,
		"weft-cni does not attach containers in this version",
		"use the bridge plugin with the subnet and MTU of /run/flannel/subnet.env, or flannel's own CNI plugin, which reads that file")
}

// nothingToDo succeeds, as the specification asks of DEL for a container that
// was never added.
func nothingToDo(*skel.CmdArgs) error { return nil }
