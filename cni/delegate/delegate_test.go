package delegate_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/cni/delegate"
	"github.com/weftnet/weft/cni/delegate/delegatetest"
)

const conf = `{"cniVersion":"1.0.0","name":"mynet","type":"bridge"}`

func TestCalls(t *testing.T) {
	plugins := delegatetest.New(t, "bridge")
	plugins.Result(`{"cniVersion": "1.0.0", "ips": [{"address": "10.5.1.2/24"}]}`)
	c := delegate.Caller{Path: "/nowhere:" + plugins.Dir, Stderr: t.Output()}
	a := delegate.Attachment{ContainerID: "c1", NetNS: "/run/netns/x", IfName: "eth0", Args: "IP=10.5.1.2"}
	result, err := c.Add(t.Context(), "bridge", []byte(conf), a)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := result.PrintTo(&printed); err != nil || !strings.Contains(printed.String(), `"address": "10.5.1.2/24"`) {
		t.Errorf("the result is %s, error %v", &printed, err)
	}
	if err := c.Call(t.Context(), "GC", "bridge", []byte(conf), delegate.Attachment{}); err != nil {
		t.Error(err)
	}
	want := []delegatetest.Call{
		{Plugin: "bridge", Verb: "ADD", ContainerID: "c1", IfName: "eth0", NetNS: "/run/netns/x", Args: "IP=10.5.1.2", Path: c.Path, Conf: conf},
		{Plugin: "bridge", Verb: "GC", Path: c.Path, Conf: conf},
	}
	if got := plugins.Calls(); !reflect.DeepEqual(got, want) {
		t.Errorf("called %+v, want %+v", got, want)
	}
}

func TestErrors(t *testing.T) {
	plugins := delegatetest.New(t, "bridge")
	c := delegate.Caller{Path: plugins.Dir, Stderr: t.Output()}
	for _, test := range []struct {
		answer string
		code   uint
		want   []string
	}{
		{`{"code": 7, "msg": "bad vlan", "details": "5000"}`, 7, []string{"bridge ADD: bad vlan; 5000"}},
		{`{"code": 999, "msg": "no IP addresses available in range set: 10.5.1.1-10.5.1.254"}`, types.ErrTryAgainLater, []string{"subnet is full", "SubnetLen"}},
		{`{"code": 999, "msg": "failed to set bridge addr: \"cni0\" already has an IP address different from 10.5.1.1/24", "details": "x"}`, 999, []string{"; x; the bridge has", "former lease", "delegate.bridge"}},
		{`{"code": 999, "msg": "failed to find plugin \"host-local\" in path [/x]"}`, types.ErrPluginNotAvailable, []string{"containernetworking-plugins"}},
		{`{"code": 999, "msg": "10.5.1.2 has been allocated to c1, duplicate allocation is not allowed"}`, 999, []string{"was not removed"}},
		{`killed`, types.ErrInternal, []string{"bridge ADD: ", "killed"}},
	} {
		plugins.Fail("bridge", "ADD", test.answer)
		_, err := c.Add(t.Context(), "bridge", []byte(conf), delegate.Attachment{})
		delegatetest.WantError(t, err, test.code, test.want...)
	}
	delegatetest.WantError(t, c.Call(t.Context(), "DEL", "ipvlan", []byte(conf), delegate.Attachment{}), types.ErrPluginNotAvailable,
		"plugin ipvlan", "CNI_PATH="+plugins.Dir, "/opt/cni/bin")
	delegatetest.WantError(t, c.Call(t.Context(), "DEL", "../bridge", []byte(conf), delegate.Attachment{}), types.ErrPluginNotAvailable)
}

func TestCallIfKnown(t *testing.T) {
	plugins := delegatetest.New(t, "bridge")
	c := delegate.Caller{Path: plugins.Dir, Stderr: t.Output()}
	plugins.Fail("bridge", "GC", `{"code": 4, "msg": "unknown CNI_COMMAND: GC"}`)
	if err := c.CallIfKnown(t.Context(), "GC", "bridge", []byte(conf)); err != nil {
		t.Errorf("a plugin of before CNI 1.1: %v", err)
	}
	plugins.Fail("bridge", "GC", `{"code": 3, "msg": "missing containerID"}`)
	if err := c.CallIfKnown(t.Context(), "GC", "bridge", []byte(conf)); err != nil {
		t.Errorf("a plugin of before CNI 1.1, in Debian 12: %v", err)
	}
	plugins.Fail("bridge", "GC", `{"code": 4, "msg": "required env variables [CNI_PATH] missing"}`)
	delegatetest.WantError(t, c.CallIfKnown(t.Context(), "GC", "bridge", []byte(conf)), 4, "CNI_PATH")
	plugins.Fail("bridge", "GC", "")
	if err := c.CallIfKnown(t.Context(), "GC", "bridge", []byte(conf)); err != nil {
		t.Error(err)
	}
	delegatetest.WantError(t, c.CallIfKnown(t.Context(), "GC", "ipvlan", []byte(conf)), types.ErrPluginNotAvailable)
}

func TestCheckVersion(t *testing.T) {
	plugins := delegatetest.New(t, "bridge")
	c := delegate.Caller{Path: plugins.Dir, Stderr: t.Output()}
	plugins.Versions("1.0.0")
	if err := c.CheckVersion(t.Context(), "bridge", "1.0.0"); err != nil {
		t.Error(err)
	}
	delegatetest.WantError(t, c.CheckVersion(t.Context(), "bridge", "1.1.0"), types.ErrIncompatibleCNIVersion, "bridge does not speak CNI 1.1.0, but 0.4.0, 1.0.0", "cniVersion")
	delegatetest.WantError(t, c.CheckVersion(t.Context(), "ipvlan", "1.0.0"), types.ErrPluginNotAvailable, "ipvlan")
}
