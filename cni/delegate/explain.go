package delegate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

const adviceInstall = "install the reference plugins (Debian's package containernetworking-plugins, or github.com/containernetworking/plugins) where the runtime looks for plugins, usually /opt/cni/bin or /usr/lib/cni"

const adviceVersion = "install newer reference plugins (1.6 and later speak CNI 1.1), or write an older cniVersion, and no cniVersions, in the network's configuration"

// known are errors of bridge and host-local (containernetworking/plugins 1.9)
// that their own text does not help with.
var known = []struct {
	part   string // of the message
	code   uint   // that says it better than the plugin's own, or 0
	advice string
}{
	{"failed to find plugin", types.ErrPluginNotAvailable, adviceInstall},
	{"incompatible CNI versions", 0, adviceVersion},
	{"no IP addresses available", types.ErrTryAgainLater,
		"this node's subnet is full: remove containers, have leaked addresses collected (docs/cni.md says how), or lease larger subnets (SubnetLen in the network config)"},
	{"already has an IP address different from", 0,
		"the bridge has the gateway address of another subnet, for instance of the node's former lease: remove the containers of that subnet and then the bridge (ip link delete), or name another bridge in delegate.bridge"},
	{"already exists but is not a bridge", 0,
		"name another bridge in delegate.bridge, or remove the device of that name"},
	{"duplicate allocation is not allowed", 0,
		"an earlier container of this ID was not removed: call DEL for it first, or have leaked addresses collected (docs/cni.md says how)"},
	{"failed to open netns", types.ErrInvalidNetNS,
		"the container's network namespace is gone: start the container again"},
}

// explain makes a plugin's error one of this plugin's: with the plugin's name,
// its code unless a better one is known, and advice.
func explain(plugin, verb string, err error) error {
	e := &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	var theirs *types.Error
	if errors.As(err, &theirs) {
		*e = *theirs
		if e.Code == types.ErrUnknown {
			e.Code = types.ErrInternal // no plugin's own: it died or wrote no error
		}
	}
	for _, k := range known {
		if strings.Contains(e.Msg, k.part) {
			if k.code != 0 {
				e.Code = k.code
			}
			e.Details = strings.TrimPrefix(e.Details+"; "+k.advice, "; ")
		}
	}
	e.Msg = fmt.Sprintf("%s %s: %s", plugin, verb, e.Msg)
	return e
}
