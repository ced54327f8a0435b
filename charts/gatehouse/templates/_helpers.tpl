{{- define "gatehouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "gatehouse.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "gatehouse.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gatehouse.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- /* What selects the Pods: immutable, so never a version. */}}
{{- define "gatehouse.selector" -}}
app.kubernetes.io/name: {{ include "gatehouse.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "gatehouse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "gatehouse.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: gatehouse
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* metadata of an object. Arguments: context, name, and optionally labels, annotations, cluster (no namespace). */}}
{{- define "gatehouse.metadata" -}}
{{- $context := .context -}}
{{ toYaml (dict "name" .name) }}
{{- if not .cluster }}
{{ toYaml (dict "namespace" (default (include "gatehouse.namespace" $context) .namespace)) }}
{{- end }}
labels:
{{- $labels := include "gatehouse.labels" $context | fromYaml }}
{{- toYaml (merge (dict) (default (dict) .labels) $labels) | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) $context.Values.commonAnnotations }}
annotations:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "gatehouse.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gatehouse.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "gatehouse.gateway" -}}
{{- default (include "gatehouse.fullname" .) .Values.gateway.name }}
{{- end }}

{{- define "gatehouse.lease" -}}
{{- default (include "gatehouse.fullname" .) .Values.leaseName }}
{{- end }}

{{- define "gatehouse.groupSecret" -}}
{{- default (printf "%s-group" (include "gatehouse.fullname" .)) .Values.group.existingSecret }}
{{- end }}

{{- /* Arguments: context, image (registry, repository, tag, digest), tag by default. */}}
{{- define "gatehouse.image" -}}
{{- $registry := default .image.registry .context.Values.global.imageRegistry }}
{{- $name := .image.repository }}
{{- if $registry }}
{{- $name = printf "%s/%s" $registry $name }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .tag .image.tag) }}
{{- end }}
{{- end }}

{{- /* Seconds from the stop signal to the end, with room: everything that one wait may follow upon another. */}}
{{- define "gatehouse.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- $drain := .Values.traffic.drainTimeout }}
{{- $linger := .Values.traffic.lingerTimeout }}
{{- if kindIs "invalid" $linger }}
{{- $linger = $drain }}
{{- end }}
{{- addf $drain $linger .Values.traffic.bgpGrace 10 | ceil | int }}
{{- else }}
{{- .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{- /* A Pod finds its predecessor by a socket in the folder of the node. */}}
{{- define "gatehouse.updateStrategy" -}}
{{- $beside := eq .Values.state.type "hostPath" }}
{{- $rolling := default (dict) .Values.updateStrategy.rollingUpdate }}
{{- if and (not $beside) (not (has (toString (default 0 $rolling.maxSurge)) (list "0" "0%"))) }}
{{- fail "updateStrategy: with state.type emptyDir a Pod does not find its predecessor, so maxSurge has to be 0" }}
{{- end }}
{{- if .Values.updateStrategy }}
{{- toYaml .Values.updateStrategy }}
{{- else }}
{{- $surge := ternary 1 0 $beside }}
{{- toYaml (dict "type" "RollingUpdate" "rollingUpdate" (dict "maxSurge" $surge "maxUnavailable" (sub 1 $surge))) }}
{{- end }}
{{- end }}

{{- /* Whether the Route CRD is this chart's: not where the API server has Routes from elsewhere. */}}
{{- define "gatehouse.routeCrd" -}}
{{- $setting := .Values.routes.crd }}
{{- if eq $setting "always" }}true
{{- else if eq $setting "auto" }}
{{- $known := .Capabilities.APIVersions.Has "route.openshift.io/v1" }}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "routes.route.openshift.io" }}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" (default (dict) $crd) }}
{{- if or (not $known) (eq $owner .Release.Name) }}true{{ end }}
{{- end }}
{{- end }}

{{- define "gatehouse.scc" -}}
{{- $setting := .Values.openshift.scc }}
{{- if or (eq $setting "always") (and (eq $setting "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}true{{ end }}
{{- end }}

{{- /* Whether the Pods write to folders of the node. */}}
{{- define "gatehouse.onNode" -}}
{{- if or .Values.hostSysctls (eq .Values.state.type "hostPath") }}true{{ end }}
{{- end }}

{{- /* With SELinux a container may not write to them, whoever it runs as. */}}
{{- define "gatehouse.seLinux" -}}
{{- if .Values.seLinuxOptions }}
{{- toYaml .Values.seLinuxOptions }}
{{- else if and (include "gatehouse.scc" .) (include "gatehouse.onNode" .) }}
{{- toYaml (dict "type" "spc_t") }}
{{- end }}
{{- end }}
