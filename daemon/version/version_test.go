package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	if String() == "" {
		t.Error("no version at all")
	}
	version = "v1.2.3"
	defer func() { version = "" }()
	if got := String(); got != "v1.2.3" {
		t.Errorf("%q, want what the build was told", got)
	}
}

func TestFromBuildInfo(t *testing.T) {
	settings := func(commit, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
	}
	const commit = "0d2a870f1e2d3c4b5a69788796a5b4c3d2e1f001"
	tests := []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{Main: debug.Module{Version: "v0.2.0"}, Settings: settings(commit, "true")}, "v0.2.0"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: settings(commit, "false")}, "commit 0d2a870f1e2d"},
		{debug.BuildInfo{Settings: settings(commit, "true")}, "commit 0d2a870f1e2d with changes"},
		{debug.BuildInfo{Settings: settings("abc", "false")}, "commit abc"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "unknown"},
	}
	for _, tt := range tests {
		if got := fromBuildInfo(&tt.info); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
