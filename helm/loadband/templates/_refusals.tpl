{{/* Checks that no schema can express: a sentence for each problem, all at once. */}}
{{- define "loadband.refuse" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if and (not $v.effort) (not $v.profile) (ge (float64 $v.band.min) (float64 $v.band.max)) -}}
{{- $wrong = append $wrong (printf "band.min (%v) must be less than band.max (%v)" $v.band.min $v.band.max) -}}
{{- end -}}

{{- $elsewhere := or (omit (default dict $v.nodeSelector) "kubernetes.io/os") (get (default dict $v.affinity) "nodeAffinity") -}}
{{- if and (eq $v.kind "DaemonSet") (not $v.allNodes) (not $elsewhere) -}}
{{- $wrong = append $wrong "a DaemonSet without a nodeSelector would load every node of the cluster: set nodeSelector (or a node affinity), or allNodes: true if you mean it" -}}
{{- end -}}

{{- $duration := include "loadband.milliseconds" $v.duration | int64 -}}
{{- if and (eq $v.kind "Job") (eq $duration 0) -}}
{{- $wrong = append $wrong "a Job is a finite run: set duration" -}}
{{- end -}}
{{- if $v.latch -}}
{{- if $v.effort -}}
{{- $wrong = append $wrong "effort is fixed from the start, so there is nothing to latch: set either latch or effort" -}}
{{- end -}}
{{- if lt (include "loadband.milliseconds" $v.latch | int64) 1000 -}}
{{- $wrong = append $wrong (printf "latch (%v) must be at least 1s" $v.latch) -}}
{{- end -}}
{{- if and $duration (ge (include "loadband.milliseconds" $v.latch | int64) $duration) -}}
{{- $wrong = append $wrong (printf "latch (%v) must be shorter than duration (%v)" $v.latch $v.duration) -}}
{{- end -}}
{{- end -}}

{{- if and $v.profile $v.effort -}}
{{- $wrong = append $wrong "effort is fixed, so it can't follow a profile: set either profile or effort" -}}
{{- end -}}
{{- if and $v.profile $v.latch -}}
{{- $wrong = append $wrong "a latched load has one size, so it can't follow a profile: set either profile or latch" -}}
{{- end -}}
{{- if and $v.profileFiles (not $v.profile) -}}
{{- $wrong = append $wrong "profileFiles without a profile: set profile" -}}
{{- end -}}

{{- $limit := include "loadband.givenLimit" . -}}
{{- $maxEffort := include "loadband.maxEffort" . -}}
{{- if and (eq $v.scope "container") (not $limit) -}}
{{- $wrong = append $wrong "with scope container the band is a percentage of the pod's CPU limit: set resources.limits.cpu" -}}
{{- end -}}
{{- range $name, $asked := dict "effort" (ternary (include "loadband.effort" .) "" (not (empty $v.effort))) "maxEffort" $maxEffort -}}
{{- if and $asked $limit (gt (int64 $asked) (int64 $limit)) -}}
{{- $wrong = append $wrong (printf "resources.limits.cpu (%v) is below %s (%v): the pod would be throttled and never reach it; leave 25 %% of headroom, or leave out the limit" $v.resources.limits.cpu $name (get $v $name)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.effort $maxEffort (gt (include "loadband.effort" . | int64) (int64 $maxEffort)) -}}
{{- $wrong = append $wrong (printf "maxEffort (%v) is below effort (%v)" $v.maxEffort $v.effort) -}}
{{- end -}}

{{- $own := dict "MIN" "band.min" "MAX" "band.max" "SCOPE" "scope" "CONTROLLER" "controller" "LATCH" "latch" "PROFILE" "profile" "EFFORT" "effort" "MAX_EFFORT" "maxEffort" "DURATION" "duration" "ON_END" "kind" -}}
{{- range $v.extraEnv -}}
{{- $name := trimPrefix "LOADBAND_" .name -}}
{{- if and (hasPrefix "LOADBAND_" .name) (hasKey $own $name) -}}
{{- $wrong = append $wrong (printf "extraEnv has %s: set the value %s instead" .name (get $own $name)) -}}
{{- else if and (eq .name "LOADBAND_LISTEN") (not (has .value (list "[::]:10670" "0.0.0.0:10670"))) -}}
{{- $wrong = append $wrong "extraEnv has LOADBAND_LISTEN: probes and monitors need port 10670 of all addresses, which is the default" -}}
{{- end -}}
{{- end -}}

{{- range $v.extraVolumes -}}
{{- if and $v.profile (eq .name "profile") -}}
{{- $wrong = append $wrong "extraVolumes has a volume called profile, which is the chart's own: give it another name" -}}
{{- end -}}
{{- end -}}
{{- range $v.extraVolumeMounts -}}
{{- if and $v.profile (eq (trimSuffix "/" .mountPath) "/etc/loadband") -}}
{{- $wrong = append $wrong "extraVolumeMounts has the path /etc/loadband, which is the profile's: mount it elsewhere" -}}
{{- end -}}
{{- end -}}

{{- if and $v.serviceAccount.annotations (not (include "loadband.makesServiceAccount" .)) -}}
{{- $wrong = append $wrong "serviceAccount.annotations without serviceAccount.create: the chart makes no account that could have them" -}}
{{- end -}}

{{- if and $v.podDisruptionBudget.enabled (ne $v.kind "Deployment") -}}
{{- $wrong = append $wrong (printf "podDisruptionBudget is about slices, and a %s has none: set kind Deployment" $v.kind) -}}
{{- end -}}

{{- if and $v.hostNetwork $v.networkPolicy.enabled -}}
{{- $wrong = append $wrong "a NetworkPolicy doesn't apply to pods with hostNetwork: enable only one of them" -}}
{{- end -}}

{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
{{- $wrong = append $wrong "serviceMonitor and podMonitor together would scrape each pod twice: enable only one of them" -}}
{{- end -}}

{{- if $v.rebalance.enabled -}}
{{- if not $v.rebalance.namespace -}}
{{- $wrong = append $wrong "rebalance.enabled without rebalance.namespace: name the namespace, which must exist, in which a run makes, evicts and deletes its pods" -}}
{{- end -}}
{{- if not $v.rebalance.prometheus -}}
{{- $wrong = append $wrong "rebalance.enabled without rebalance.prometheus: set the URL of the Prometheus that watches the nodes; the image has none of its own" -}}
{{- end -}}
{{- if and (has $v.rebalance.rebalancer (list "descheduler" "koord-descheduler")) (not $v.rebalance.descheduler) -}}
{{- $wrong = append $wrong (printf "rebalance.rebalancer %s without rebalance.descheduler: say where its pods are, namespace/selector, so that the run may look at them" $v.rebalance.rebalancer) -}}
{{- end -}}
{{- if not (or $v.rebalance.scenario $v.rebalance.scenarioFile) -}}
{{- $wrong = append $wrong "rebalance.enabled without a scenario: set rebalance.scenario or rebalance.scenarioFile" -}}
{{- end -}}
{{- if and $v.image.digest (not (or $v.rebalance.image.tag $v.rebalance.image.digest)) -}}
{{- $wrong = append $wrong "image.digest is that of the slices' image: set rebalance.image.digest, too" -}}
{{- end -}}
{{- $others := dict "serviceMonitor.enabled" $v.serviceMonitor.enabled "networkPolicy.enabled" $v.networkPolicy.enabled "podDisruptionBudget.enabled" $v.podDisruptionBudget.enabled "prometheusAnnotations" $v.prometheusAnnotations "kind" (ne $v.kind "Deployment") -}}
{{- range list "effort" "maxEffort" "latch" "profile" -}}
{{- $_ := set $others . (get $v .) -}}
{{- end -}}
{{- range $name, $given := $others -}}
{{- if $given -}}
{{- $wrong = append $wrong (printf "%s is about regulators, and with rebalance.enabled the release has none: they would load the nodes under test" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if $wrong -}}
{{- fail (printf "\n\nloadband can't be installed with these values:\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}
