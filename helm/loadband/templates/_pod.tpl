{{/* The variables that the chart's values set; extraEnv must not set them again. */}}
{{- define "loadband.env" -}}
{{- $env := dict "SCOPE" .Values.scope "CONTROLLER" .Values.controller "DURATION" (include "loadband.text" .Values.duration) -}}
{{- if .Values.effort -}}
{{- $_ := set $env "EFFORT" (printf "%sm" (include "loadband.millicores" .Values.effort)) -}}
{{- else if .Values.profile -}}
{{- $_ := set $env "PROFILE" "/etc/loadband/profile.toml" -}}
{{- else -}}
{{- $_ := merge $env (dict "MIN" (include "loadband.text" .Values.band.min) "MAX" (include "loadband.text" .Values.band.max)) -}}
{{- end -}}
{{- with include "loadband.maxEffort" . -}}
{{- $_ := set $env "MAX_EFFORT" (printf "%sm" .) -}}
{{- end -}}
{{- with .Values.latch -}}
{{- $_ := set $env "LATCH" (include "loadband.text" .) -}}
{{- end -}}
{{- if include "loadband.milliseconds" .Values.duration | ne "0" -}}
{{- $_ := set $env "ON_END" (ternary "exit" "idle" (eq .Values.kind "Job")) -}}
{{- end -}}
{{- range $name, $value := $env }}
- name: LOADBAND_{{ $name }}
  value: {{ quote $value }}
{{- end -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{/* The profile and the series that it replays, by file name. */}}
{{- define "loadband.profile" -}}
{{- toYaml (merge (dict "profile.toml" .Values.profile) (default dict .Values.profileFiles)) -}}
{{- end -}}

{{- define "loadband.mounts" -}}
{{- $own := list (dict "name" "profile" "mountPath" "/etc/loadband" "readOnly" true) -}}
{{- toYaml (concat (ternary $own list (not (empty .Values.profile))) (default list .Values.extraVolumeMounts)) -}}
{{- end -}}

{{/* A ConfigMap isn't local storage, which would keep a descheduler from evicting the pod. */}}
{{- define "loadband.volumes" -}}
{{- $own := list (dict "name" "profile" "configMap" (dict "name" (printf "%s-profile" (include "loadband.fullname" .)))) -}}
{{- toYaml (concat (ternary $own list (not (empty .Values.profile))) (default list .Values.extraVolumes)) -}}
{{- end -}}

{{/* Amounts of CPU in requests or limits as the API server writes them. */}}
{{- define "loadband.amounts" -}}
{{- $amounts := deepCopy (default dict .) -}}
{{- if $amounts.cpu }}{{ $_ := set $amounts "cpu" (include "loadband.millicores" $amounts.cpu | include "loadband.quantity") }}{{ else }}{{ $_ := unset $amounts "cpu" }}{{ end -}}
{{- toYaml $amounts -}}
{{- end -}}

{{- define "loadband.resources" -}}
{{- $resources := deepCopy (default dict .Values.resources) -}}
{{- with $resources.requests -}}
{{- $_ := set $resources "requests" (include "loadband.amounts" . | fromYaml) -}}
{{- end -}}
{{- $limits := default dict $resources.limits -}}
{{- with include "loadband.limit" . -}}
{{- $limits = merge (dict "cpu" (include "loadband.quantity" .)) $limits -}}
{{- else -}}
{{- $limits = omit $limits "cpu" -}}
{{- end -}}
{{- toYaml (set $resources "limits" $limits) -}}
{{- end -}}

{{/* What all pods have in common, including the pod of `helm test`. Only a run of a scenario needs the API server. */}}
{{- define "loadband.podBase" -}}
{{- $secrets := default list .Values.imagePullSecrets -}}
{{- range (default dict .Values.global).imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
automountServiceAccountToken: {{ .Values.rebalance.enabled }}
{{- with include "loadband.serviceAccount" . }}
serviceAccountName: {{ . }}
{{- end }}
{{- with uniq $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- if .Values.hostNetwork }}
hostNetwork: true
{{- end }}
{{- with default (ternary "ClusterFirstWithHostNet" "" .Values.hostNetwork) .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "loadband.podTemplate" -}}
metadata:
  labels:
    {{- $own := merge (include "loadband.selector" . | fromYaml) (dict "app.kubernetes.io/part-of" "loadband") }}
    {{- toYaml (merge $own (default dict .Values.podLabels) (default dict .Values.commonLabels)) | nindent 4 }}
  {{- $annotations := ternary (dict "prometheus.io/scrape" "true" "prometheus.io/port" "10670" "prometheus.io/path" "/metrics") dict .Values.prometheusAnnotations }}
  {{- if .Values.profile }}
  {{- $_ := set $annotations "checksum/profile" (include "loadband.profile" . | sha256sum) }}
  {{- end }}
  {{- with merge (deepCopy (default dict .Values.podAnnotations)) $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "loadband.podBase" . | nindent 2 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.kind "Job" }}
  restartPolicy: Never
  # The duration, plus an hour to pull the image. It counts from when the pod is on a node; a Job's own deadline would
  # count the time before that, too.
  activeDeadlineSeconds: {{ divf (include "loadband.milliseconds" .Values.duration) 1000 | ceil | int64 | add 3600 }}
  {{- end }}
  # A Service named loadband would put LOADBAND_PORT and other variables into the environment.
  enableServiceLinks: false
  # The program ends within 2 s.
  terminationGracePeriodSeconds: {{ default 10 .Values.terminationGracePeriodSeconds }}
  containers:
    - name: loadband
      image: {{ include "loadband.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      env:
        {{- include "loadband.env" . | trim | nindent 8 }}
      ports:
        - name: metrics
          containerPort: 10670
      # On a saturated node an answer takes longer; with a shorter timeout the load would kill its own pods.
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        timeoutSeconds: 5
        periodSeconds: 5
      resources:
        {{- include "loadband.resources" . | nindent 8 }}
      {{- with include "loadband.mounts" . | fromYamlArray }}
      volumeMounts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- with include "loadband.volumes" . | fromYamlArray }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
