// Package deploy has the examples of how to run a search on several machines, and their tests.
package deploy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// manifests are the documents of a file.
func manifests(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n---\n")
}

// validate decodes a manifest by the types of Kubernetes, which rejects fields that they do not have, and checks what a server would: names,
// labels that select the pods, and volumes that are there.
func validate(text string) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
		return err
	}
	named := func(m meta.ObjectMeta) error {
		if problems := validation.IsDNS1123Label(m.Name); len(problems) > 0 {
			return fmt.Errorf("name %q: %v", m.Name, problems)
		}
		return nil
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Service":
		var s core.Service
		if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
			return err
		}
		if len(s.Spec.Ports) == 0 || len(s.Spec.Selector) == 0 {
			return fmt.Errorf("service %s selects nothing", s.Name)
		}
		return named(s.ObjectMeta)
	case "apps/v1 StatefulSet":
		var s apps.StatefulSet
		if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
			return err
		}
		var claims []string
		for _, c := range s.Spec.VolumeClaimTemplates {
			claims = append(claims, c.Name)
		}
		if err := pod(s.Spec.Selector, s.Spec.Template, claims); err != nil {
			return err
		}
		return named(s.ObjectMeta)
	case "apps/v1 Deployment":
		var d apps.Deployment
		if err := yaml.UnmarshalStrict([]byte(text), &d); err != nil {
			return err
		}
		if err := pod(d.Spec.Selector, d.Spec.Template, nil); err != nil {
			return err
		}
		return named(d.ObjectMeta)
	}
	return fmt.Errorf("unknown kind %s %s", kind.APIVersion, kind.Kind)
}

// pod checks a template of pods.
func pod(selector *meta.LabelSelector, p core.PodTemplateSpec, volumes []string) error {
	if selector == nil || len(selector.MatchLabels) == 0 {
		return fmt.Errorf("no selector")
	}
	for k, v := range selector.MatchLabels {
		if p.Labels[k] != v {
			return fmt.Errorf("the selector %s=%s does not match the pods", k, v)
		}
	}
	for _, v := range p.Spec.Volumes {
		volumes = append(volumes, v.Name)
	}
	if len(p.Spec.Containers) == 0 {
		return fmt.Errorf("no container")
	}
	for _, c := range p.Spec.Containers {
		if c.Image == "" || len(validation.IsDNS1123Label(c.Name)) > 0 {
			return fmt.Errorf("container %q of image %q", c.Name, c.Image)
		}
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) || !strings.HasPrefix(m.MountPath, "/") {
				return fmt.Errorf("container %s: volume %s at %s is not among %v", c.Name, m.Name, m.MountPath, volumes)
			}
		}
		for _, e := range c.Env {
			if problems := validation.IsEnvVarName(e.Name); len(problems) > 0 {
				return fmt.Errorf("container %s: variable %q: %v", c.Name, e.Name, problems)
			}
		}
	}
	return nil
}

// TestManifests validates the manifests, and that the validator finds errors.
func TestManifests(t *testing.T) {
	all := manifests(t, "kubernetes.yaml")
	if len(all) != 3 {
		t.Errorf("%d manifests", len(all))
	}
	for _, m := range all {
		if err := validate(m); err != nil {
			t.Errorf("%v in\n%s", err, m)
		}
	}
	for old, by := range map[string]string{
		"replicas: 4": "replica: 4", "kind: Deployment": "kind: Deploy", "app: lathe-worker\n  template": "app: worker\n  template", "mountPath: /files": "mountPath: files",
		"name: lathe-worker\nspec": "name: Lathe Worker\nspec", "- name: LATHE_CACHE": "- name: LATHE=CACHE", "memory: 32Gi": "memory: lots",
	} {
		if !strings.Contains(all[2], old) {
			t.Errorf("%q is not in the manifest", old)
		} else if err := validate(strings.Replace(all[2], old, by, 1)); err == nil {
			t.Errorf("%q is accepted", by)
		}
	}
}
