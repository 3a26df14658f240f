{{- define "loadband.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the installed objects: the release's name, plus the chart's name unless it contains that. */}}
{{- define "loadband.fullname" -}}
{{- $name := include "loadband.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* One of a kind in the cluster: no two releases have the same. */}}
{{- define "loadband.release" -}}
{{- printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- end -}}

{{- define "loadband.releaseId" -}}
{{- include "loadband.release" . | sha256sum | trunc 8 -}}
{{- end -}}

{{/* The name of an object in a namespace: (list . namespace), empty for the release's own. In another, two releases of
the same name may meet. */}}
{{- define "loadband.nameIn" -}}
{{- $own := (first .).Release.Namespace -}}
{{- $name := include "loadband.fullname" (first .) -}}
{{- ternary $name (printf "%s-%s" $name (include "loadband.releaseId" (first .))) (eq $own (default $own (last .))) -}}
{{- end -}}

{{/* Selects the regulators' pods, but not the pod of `helm test`. */}}
{{- define "loadband.selector" -}}
app.kubernetes.io/name: {{ include "loadband.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: regulator
{{- end -}}

{{/* The labels of every object. */}}
{{- define "loadband.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "loadband.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/part-of" "loadband"
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- toYaml (merge $own (default dict .Values.commonLabels)) -}}
{{- end -}}

{{/* The same, with a component: (list . "regulator"). */}}
{{- define "loadband.componentLabels" -}}
{{- $labels := include "loadband.labels" (first .) | fromYaml -}}
{{- toYaml (set $labels "app.kubernetes.io/component" (last .)) -}}
{{- end -}}

{{/* Whether the chart makes the pods' service account: yes or nothing. */}}
{{- define "loadband.makesServiceAccount" -}}
{{- if or .Values.serviceAccount.create (and .Values.rebalance.enabled (not .Values.serviceAccount.name)) -}}yes{{- end -}}
{{- end -}}

{{/* The service account of the pods, or nothing for the namespace's default one. */}}
{{- define "loadband.serviceAccount" -}}
{{- default (ternary (include "loadband.fullname" .) "" (include "loadband.makesServiceAccount" . | eq "yes")) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The image's reference: (list . tag digest); a digest overrides a tag. */}}
{{- define "loadband.imageReference" -}}
{{- $values := (first .).Values -}}
{{- $registry := default $values.image.registry (default dict $values.global).imageRegistry -}}
{{- $name := list $registry $values.image.repository | compact | join "/" -}}
{{- if last . -}}
{{- printf "%s@%s" $name (last .) -}}
{{- else -}}
{{- printf "%s:%s" $name (index . 1) -}}
{{- end -}}
{{- end -}}

{{- define "loadband.tag" -}}
{{- default .Chart.AppVersion .Values.image.tag -}}
{{- end -}}

{{/* The regulator's image. */}}
{{- define "loadband.image" -}}
{{- include "loadband.imageReference" (list . (include "loadband.tag" .) .Values.image.digest) -}}
{{- end -}}

{{/* The image with `loadband rebalance`. */}}
{{- define "loadband.rebalanceImage" -}}
{{- $image := .Values.rebalance.image -}}
{{- include "loadband.imageReference" (list . (default (printf "%s-rebalance" (include "loadband.tag" .)) $image.tag) $image.digest) -}}
{{- end -}}
