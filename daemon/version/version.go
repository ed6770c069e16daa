// Package version knows which weft this is.
package version

import (
	"runtime/debug"
	"strings"
)

// version is set by the build: -ldflags "-X github.com/weftnet/weft/daemon/version.version=v1.2.3".
var version string

// String returns the version: what the build was told, else the module's
// version, else the commit it was built from, else "unknown".
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fromBuildInfo(info)
}

func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var commit, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value
		}
	}
	if commit == "" {
		return "unknown"
	}
	v := "commit " + commit[:min(12, len(commit))]
	if strings.EqualFold(modified, "true") {
		v += " with changes"
	}
	return v
}
