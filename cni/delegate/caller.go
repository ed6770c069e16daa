// Package delegate calls the plugins that weft's CNI plugin hands its work to,
// and says what to do about the errors they are known for.
package delegate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// Attachment is what a plugin is told about a container by its environment. It
// is the zero value with STATUS and GC.
type Attachment struct {
	ContainerID string
	NetNS       string // path; empty if the namespace is gone
	IfName      string
	Args        string // CNI_ARGS
}

// Caller calls plugins.
type Caller struct {
	Path   string    // CNI_PATH
	Stderr io.Writer // where the plugins' stderr goes
}

// Add calls a plugin with ADD. All of Caller's errors are a types.Error.
func (c Caller) Add(ctx context.Context, plugin string, conf []byte, a Attachment) (types.Result, error) {
	path, err := c.Find(plugin)
	if err != nil {
		return nil, err
	}
	result, err := invoke.ExecPluginWithResult(ctx, path, conf, c.args("ADD", a), c.exec())
	if err != nil {
		return nil, explain(plugin, "ADD", err)
	}
	return result, nil
}

// Call calls a plugin with a verb that has no result.
func (c Caller) Call(ctx context.Context, verb, plugin string, conf []byte, a Attachment) error {
	path, err := c.Find(plugin)
	if err != nil {
		return err
	}
	if err := invoke.ExecPluginWithoutResult(ctx, path, conf, c.args(verb, a), c.exec()); err != nil {
		return explain(plugin, verb, err)
	}
	return nil
}

// CallIfKnown is Call for a verb of CNI 1.1 that is about no container. An
// older plugin need not know it; that is no error.
func (c Caller) CallIfKnown(ctx context.Context, verb, plugin string, conf []byte) error {
	err := c.Call(ctx, verb, plugin, conf, Attachment{})
	var e *types.Error
	if !errors.As(err, &e) {
		return err
	}
	// The answers of pkg/skel, with which nearly all plugins are made. Before
	// 1.2 it missed the container first.
	unknown := e.Code == types.ErrInvalidEnvironmentVariables && strings.Contains(e.Msg, "unknown CNI_COMMAND")
	if unknown || e.Code == types.ErrUnknownContainer {
		return nil
	}
	return err
}

// CheckVersion asks a plugin whether it speaks a version of CNI.
func (c Caller) CheckVersion(ctx context.Context, plugin, version string) error {
	path, err := c.Find(plugin)
	if err != nil {
		return err
	}
	info, err := invoke.GetVersionInfo(ctx, path, c.exec())
	if err != nil {
		return explain(plugin, "VERSION", err)
	}
	if spoken := info.SupportedVersions(); !slices.Contains(spoken, version) {
		return types.NewError(types.ErrIncompatibleCNIVersion, fmt.Sprintf("%s does not speak CNI %s, but %s", plugin, version, strings.Join(spoken, ", ")), adviceVersion)
	}
	return nil
}

// Find looks for a plugin as the runtime does, and returns its path.
func (c Caller) Find(plugin string) (string, error) {
	path, err := invoke.FindInPath(plugin, filepath.SplitList(c.Path))
	if err != nil {
		return "", types.NewError(types.ErrPluginNotAvailable,
			fmt.Sprintf("the plugin %s, which this one calls, is not in CNI_PATH=%s", plugin, c.Path), adviceInstall)
	}
	return path, nil
}

func (c Caller) args(verb string, a Attachment) *invoke.Args {
	return &invoke.Args{
		Command:       verb,
		ContainerID:   a.ContainerID,
		NetNS:         a.NetNS,
		IfName:        a.IfName,
		PluginArgsStr: a.Args,
		Path:          c.Path,
	}
}

func (c Caller) exec() invoke.Exec {
	return &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: c.Stderr}}
}
