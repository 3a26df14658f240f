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

{{/* The service account of the regulators' pods, or nothing for the namespace's default one. */}}
{{- define "loadband.serviceAccount" -}}
{{- default (ternary (include "loadband.fullname" .) "" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The image's reference; a digest overrides a tag. */}}
{{- define "loadband.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry (default dict .Values.global).imageRegistry -}}
{{- $name := list $registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}
